package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v2"
)

// harmless are the keys of cloud.conf, of clouds.yaml and of the variables that begin with
// OS_ whose values are shown, in small letters and with '_' for '-'. All others are left out.
func harmless(key string) bool {
	return slices.Contains([]string{
		// Who and where.
		"auth_url", "username", "user_name", "user_id", "tenant_id", "tenant_name", "project_id", "project_name", "trust_id", "trustee_id",
		"domain_id", "domain_name", "tenant_domain_id", "tenant_domain_name", "project_domain_id", "project_domain_name",
		"user_domain_id", "user_domain_name", "default_domain", "default_domain_id", "application_credential_id", "application_credential_name",
		"region", "region_name", "regions", "name", "values", "os_endpoint_type", "endpoint_type", "interface", "auth_type", "identity_api_version",
		"volume_api_version", "compute_api_version", "profile",
		// Files, whose content is not shown.
		"ca_file", "cert_file", "key_file", "cacert", "cert", "use_clouds", "clouds_file", "cloud", "tls_insecure", "verify", "insecure",
		"client_config_file", "client_secure_file", "client_vendor_file",
		// The other sections.
		"node_volume_attach_limit", "ignore_volume_az", "ignore_volume_microversion", "rescan_on_resize", "bs_version", "trust_device_path",
		"search_order", "request_timeout",
	}, strings.ToLower(strings.ReplaceAll(key, "-", "_")))
}

// isHeader reports whether a line of a cloud.conf begins a section.
func isHeader(line string) bool {
	line = strings.TrimSpace(line)
	inner, ok := strings.CutSuffix(strings.TrimPrefix(line, "["), "]")
	name, rest, _ := strings.Cut(inner, " ")
	subsection, err := strconv.Unquote(strings.TrimSpace(rest))
	return ok && strings.HasPrefix(line, "[") && isWord(name) && (strings.TrimSpace(rest) == "" || err == nil && !strings.Contains(subsection, "\n"))
}

// pairOf returns the key and the value of a line.
func pairOf(line string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(line, "=")
	key = strings.TrimSpace(key)
	return key, strings.TrimSpace(value), ok && isWord(key)
}

// isWord reports whether a text can be the name of a section or a key.
func isWord(text string) bool {
	return text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

// showConf returns a cloud.conf with its harmless values alone, and the values that are
// left out. What is no section and no key, as a comment or the second line of a value, is left out.
func showConf(text []byte) (shown []byte, secrets []string) {
	var out bytes.Buffer
	goesOn := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		key, value, isPair := pairOf(line)
		switch {
		case strings.TrimSpace(line) == "":
			out.WriteString("\n")
		case !goesOn && isHeader(line):
			out.WriteString(line + "\n")
		case !goesOn && isPair && harmless(key) && !strings.HasSuffix(value, `\`):
			out.WriteString(key + " = " + value + "\n")
			secrets = append(secrets, passwordIn(unquoted(value))...)
		case !goesOn && isPair:
			out.WriteString(key + " = " + Redacted + "\n")
			secrets = append(secrets, value, unquoted(value))
		default:
			out.WriteString("# (a line that is not shown)\n")
			secrets = append(secrets, hidden(line)...)
		}
		goesOn = strings.HasSuffix(line, `\`)
	}
	return out.Bytes(), secrets
}

// hidden returns what may be secret of a line that is not shown: all of it, and the value
// where it holds a key of a cloud.conf or a clouds.yaml that is not harmless.
func hidden(line string) []string {
	line = strings.TrimLeft(strings.TrimSpace(line), "#;- ")
	all := []string{strings.TrimSuffix(line, `\`)}
	for _, between := range []string{"=", ":"} {
		key, value, ok := strings.Cut(line, between)
		if value = strings.TrimSpace(value); ok && !harmless(strings.TrimSpace(key)) {
			all = append(all, value, strings.Trim(unquoted(value), "'"))
		}
	}
	return all
}

// unquoted is a value as the parser reads it, without a comment behind it.
func unquoted(value string) string {
	if text, err := strconv.QuotedPrefix(value); err == nil {
		if plain, err := strconv.Unquote(text); err == nil {
			return plain
		}
	}
	plain, _, _ := strings.Cut(value, " #")
	plain, _, _ = strings.Cut(plain, " ;")
	return strings.Trim(plain, `" `)
}

// showYAML is showConf for a clouds.yaml. Names of clouds are shown.
func showYAML(text []byte) (shown []byte, secrets []string, err error) {
	var file yaml.MapSlice
	if err := yaml.Unmarshal(text, &file); err != nil {
		// The parser's error quotes the file.
		for line := range strings.Lines(string(text)) {
			secrets = append(secrets, hidden(line)...)
		}
		return nil, secrets, errors.New("it is no YAML of the kind")
	}
	for line := range strings.Lines(string(text)) { // comments are not shown
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			secrets = append(secrets, hidden(line)...)
		}
	}
	cleared := make(yaml.MapSlice, 0, len(file))
	for _, part := range file {
		clouds, ok := part.Value.(yaml.MapSlice)
		if !ok || part.Key != "clouds" && part.Key != "public-clouds" {
			cleared = append(cleared, yaml.MapItem{Key: part.Key, Value: bare(part.Value, false, &secrets)})
			continue
		}
		named := make(yaml.MapSlice, 0, len(clouds))
		for _, cloud := range clouds {
			named = append(named, yaml.MapItem{Key: cloud.Key, Value: bare(cloud.Value, false, &secrets)})
		}
		cleared = append(cleared, yaml.MapItem{Key: part.Key, Value: named})
	}
	shown, err = yaml.Marshal(cleared)
	return shown, secrets, err
}

// bare returns a value without what is below a key that is not harmless.
func bare(value any, show bool, secrets *[]string) any {
	switch value := value.(type) {
	case yaml.MapSlice:
		cleared := make(yaml.MapSlice, 0, len(value))
		for _, item := range value {
			cleared = append(cleared, yaml.MapItem{Key: item.Key, Value: bare(item.Value, harmless(fmt.Sprint(item.Key)), secrets)})
		}
		return cleared
	case []any:
		cleared := make([]any, 0, len(value))
		for _, one := range value {
			cleared = append(cleared, bare(one, show, secrets))
		}
		return cleared
	}
	if show || value == nil {
		*secrets = append(*secrets, passwordIn(fmt.Sprint(value))...)
		return value
	}
	*secrets = append(*secrets, fmt.Sprint(value))
	return Redacted
}

// secretName reports whether a variable of that name may hold a secret.
func secretName(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, "auth") || slices.ContainsFunc([]string{"pass", "secret", "token", "credential", "key"}, func(part string) bool {
		return strings.Contains(name, part)
	})
}

// environment returns the variables of OpenStack's clients, and the secrets among all
// variables.
func environment() (shown []string, secrets []string) {
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		key, ours := strings.CutPrefix(name, "OS_")
		secrets = append(secrets, passwordIn(value)...) // as that of a proxy
		switch {
		case ours && harmless(key):
			shown = append(shown, pair)
		case ours:
			shown, secrets = append(shown, name+"="+Redacted), append(secrets, value)
		case secretName(name):
			secrets = append(secrets, value)
		}
	}
	slices.Sort(shown)
	return shown, secrets
}
