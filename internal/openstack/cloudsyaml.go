package openstack

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"
)

// environmentCloud is the name of the cloud that the variables OS_AUTH_URL and so on make.
const environmentCloud = "envvars"

// withClouds fills what is empty in c from its entry of a clouds.yaml, read as
// openstacksdk does. The first of these that has a value counts:
//
//	OS_REGION_NAME, OS_INTERFACE, OS_CACERT, OS_CERT and OS_KEY
//	the values of the chosen one of its regions
//	secure.yaml        OS_CLIENT_SECURE_FILE, or beside the clouds.yaml, or in the usual places
//	clouds.yaml        clouds-file, or OS_CLIENT_CONFIG_FILE, or in the usual places
//	clouds-public.yaml its profile; OS_CLIENT_VENDOR_FILE, or as secure.yaml
//
// Where there is no clouds.yaml, OS_AUTH_URL and the other variables make a cloud.
func (c CloudConfig) withClouds() (CloudConfig, error) {
	env := environment()
	name := cmp.Or(c.Cloud, env["cloud"])
	path, err := cloudsFile(cmp.Or(c.CloudsFile, env["client_config_file"]))
	values := maps.Clone(env)
	switch {
	case name == environmentCloud, path == "" && err == nil && env["auth_url"] != "":
		path, name = "the environment", environmentCloud
	case path == "" && err == nil:
		return c, c.errorf("use-clouds: clouds-file is empty and there is no clouds.yaml in any of %v", searchDirs())
	case err != nil:
		return c, c.errorf("use-clouds: %w", err)
	default:
		if name, values, err = c.entry(path, name, env); err != nil {
			return c, c.errorf("use-clouds: %s: %w", path, err)
		}
	}
	for _, key := range []string{"region_name", "interface", "cacert", "cert", "key"} {
		values[key] = cmp.Or(env[key], values[key])
	}
	c.source = fmt.Sprintf("%s, %s cloud %q", c.origin(), path, name)
	if err := c.fill(values); err != nil {
		return c, c.errorf("%w", err)
	}
	return c, nil
}

// environment returns the variables of OpenStack's clients by their names in a
// clouds.yaml: OS_AUTH_URL is auth_url.
func environment() map[string]string {
	values := map[string]string{}
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "OS_") {
			values[strings.ToLower(name[len("OS_"):])] = value
		}
	}
	values["interface"] = cmp.Or(values["interface"], values["endpoint_type"])
	return values
}

// searchDirs are the directories where OpenStack's clients look for clouds.yaml.
func searchDirs() []string {
	places := []string{"."}
	if dir, err := os.UserConfigDir(); err == nil {
		places = append(places, filepath.Join(dir, "openstack"))
	}
	return append(places, "/etc/openstack")
}

// findFile returns the first file of a name, without its extension, in some directories,
// "" where there is none.
func findFile(name string, dirs ...string) string {
	for _, dir := range dirs {
		for _, extension := range []string{".yaml", ".yml", ".json"} {
			path := filepath.Join(dir, name+extension)
			if _, err := os.Stat(path); err == nil { // #nosec G703 -- a path from the operator
				return path
			}
		}
	}
	return ""
}

// cloudsFile returns the given file, which has to be there, else the one in the usual
// places, "" where there is none.
func cloudsFile(given string) (string, error) {
	if given == "" {
		return findFile("clouds", searchDirs()...), nil
	}
	if _, err := os.Stat(given); err != nil { // #nosec G703 -- a path from the operator
		return "", fmt.Errorf("clouds-file %s: %w", given, reason(err))
	}
	return given, nil
}

// besides returns the files that belong to a clouds.yaml: secure.yaml and
// clouds-public.yaml, "" for one that is not there.
func besides(path string, env map[string]string) (secure, public string) {
	places := append([]string{filepath.Dir(path)}, searchDirs()...)
	return cmp.Or(env["client_secure_file"], findFile("secure", places...)), cmp.Or(env["client_vendor_file"], findFile("clouds-public", places...))
}

// entry returns the wanted cloud of a clouds.yaml, or the only one that it has, and its
// values with those of the files beside it.
func (c CloudConfig) entry(path, wanted string, env map[string]string) (name string, values map[string]string, err error) {
	file, err := readClouds(path)
	if err != nil {
		return "", nil, err
	}
	if name, err = file.choose(wanted); err != nil {
		return "", nil, err
	}
	own := file.Clouds[name]
	layers := []yamlCloud{own}
	secure, public := besides(path, env)
	if secure != "" {
		file, err := readClouds(secure)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", secure, err)
		}
		layers = []yamlCloud{file.Clouds[name], own}
	}
	profile := string(cmp.Or(own.Others["profile"], own.Others["cloud"]))
	if profile != "" && public != "" {
		file, err := readClouds(public)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", public, err)
		}
		layers = append(layers, file.Public[profile])
	}
	if values, err = merge(cmp.Or(c.Region, env["region_name"]), layers); err != nil {
		return "", nil, fmt.Errorf("cloud %q: %w", name, err)
	}
	if profile != "" && cmp.Or(c.AuthURL, values["auth_url"]) == "" {
		return "", nil, fmt.Errorf("cloud %q has no auth_url, and no clouds-public.yaml has one for its profile %q", name, profile)
	}
	return name, values, nil
}

// yamlClouds is a clouds.yaml, a secure.yaml or a clouds-public.yaml.
type yamlClouds struct {
	Clouds map[string]yamlCloud `yaml:"clouds"`
	Public map[string]yamlCloud `yaml:"public-clouds"`
}

// yamlCloud is an entry. Keys that are unknown, which other clients may know, are passed
// over.
type yamlCloud struct {
	Auth    map[string]scalar `yaml:"auth"`
	Regions []yamlRegion      `yaml:"regions"`
	Others  map[string]scalar `yaml:",inline"`
	// unreadable is why the entry can't be read: an error for who uses it alone.
	unreadable error
}

// UnmarshalYAML never fails.
func (c *yamlCloud) UnmarshalYAML(unmarshal func(any) error) error {
	type entry yamlCloud
	if err := unmarshal((*entry)(c)); err != nil {
		c.unreadable = unquoted(err)
	}
	return nil
}

// yamlRegion is a name, or a name with values that go before those of the entry.
type yamlRegion struct {
	Name   string    `yaml:"name"`
	Values yamlCloud `yaml:"values"`
}

// UnmarshalYAML reads both forms.
func (r *yamlRegion) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&r.Name) == nil {
		return nil
	}
	type region yamlRegion
	return unmarshal((*region)(r))
}

// scalar is a text, number or boolean as it is written; anything else is empty.
type scalar string

// UnmarshalYAML never fails.
func (s *scalar) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	if unmarshal(&text) == nil {
		*s = scalar(text)
	}
	return nil
}

func readClouds(path string) (file yamlClouds, err error) {
	text, err := readConfigFile(path)
	if err != nil {
		return file, err
	}
	return parseClouds(text)
}

// quoted is what a complaint of the parser quotes of the file, which may be a secret.
var quoted = regexp.MustCompile("`[^`]*`")

func parseClouds(text []byte) (file yamlClouds, err error) {
	if err := yaml.Unmarshal(text, &file); err != nil {
		return file, unquoted(err)
	}
	return file, nil
}

// unquoted is an error of the parser without what it quotes.
func unquoted(err error) error {
	return errors.New(quoted.ReplaceAllString(oneLine(err.Error()), "a value"))
}

// choose returns the wanted name, or the only one that the file has.
func (f yamlClouds) choose(wanted string) (string, error) {
	names := slices.Sorted(maps.Keys(f.Clouds))
	switch {
	case wanted != "" && slices.Contains(names, wanted):
		return wanted, nil
	case wanted != "":
		return "", fmt.Errorf("there is no cloud %q, only %q", wanted, names)
	case len(names) == 1:
		return names[0], nil
	}
	return "", fmt.Errorf("key cloud is empty and the file has %d clouds: %q", len(names), names)
}

// merge returns the values of an entry whose first layers go before the others. A list of
// regions has to say which one is meant, unless it has only one.
func merge(region string, layers []yamlCloud) (map[string]string, error) {
	values := map[string]string{}
	add := func(layer yamlCloud) {
		for _, part := range []map[string]scalar{layer.Auth, layer.Others} {
			for key, value := range part {
				values[key] = cmp.Or(values[key], string(value))
			}
		}
	}
	var regions []yamlRegion
	for _, layer := range layers {
		if layer.unreadable != nil {
			return nil, layer.unreadable
		}
		if len(regions) == 0 {
			regions = layer.Regions
		}
		region = cmp.Or(region, string(layer.Others["region_name"]))
	}
	var names []string
	for _, one := range regions {
		names = append(names, one.Name)
		if one.Name == region || region == "" && len(regions) == 1 {
			if one.Values.unreadable != nil {
				return nil, fmt.Errorf("region %s: %w", one.Name, one.Values.unreadable)
			}
			values["region_name"] = one.Name
			add(one.Values)
		}
	}
	if region == "" && len(regions) > 1 {
		return nil, fmt.Errorf("region_name is empty and there are several regions: %s; set region to one of them", strings.Join(names, ", "))
	}
	for _, layer := range layers {
		add(layer)
	}
	return values, nil
}

// fill takes from an entry what c leaves open. An id and a name that mean the same thing
// are taken together, so that the two files never contradict. The older names of keys
// count as well.
func (c *CloudConfig) fill(v map[string]string) error {
	kind := strings.ToLower(cmp.Or(v["auth_type"], v["auth_plugin"]))
	switch strings.TrimPrefix(strings.TrimPrefix(kind, "v2"), "v3") {
	case "":
	case "password":
		v["token"], v["auth_token"], v["application_credential_id"], v["application_credential_name"] = "", "", "", ""
	case "token":
		v["application_credential_id"], v["application_credential_name"] = "", ""
	case "applicationcredential":
		v["token"], v["auth_token"] = "", ""
	default:
		return fmt.Errorf("auth_type %q is not supported: there are v3password, v3token and v3applicationcredential", kind)
	}
	pair := func(id, name *string, prefixes ...string) {
		for _, prefix := range prefixes {
			if *id == "" && *name == "" {
				*id, *name = v[prefix+"_id"], v[prefix+"_name"]
			}
		}
	}
	v["default_domain_id"] = cmp.Or(v["default_domain_id"], v["default_domain"])
	v["user_name"] = cmp.Or(v["username"], v["user_name"])
	if !c.userDomain() {
		pair(&c.UserDomainID, &c.UserDomainName, "user_domain", "domain", "default_domain")
	}
	if c.DomainID == "" && c.DomainName == "" {
		pair(&c.TenantDomainID, &c.TenantDomainName, "project_domain", "tenant_domain", "domain", "default_domain")
	}
	pair(&c.TenantID, &c.TenantName, "project", "tenant")
	pair(&c.UserID, &c.Username, "user")
	for _, one := range []struct {
		field *string
		value string
	}{
		{&c.AuthURL, v["auth_url"]},
		{&c.Password, v["password"]},
		{&c.Token, cmp.Or(v["token"], v["auth_token"])},
		{&c.TrustID, v["trust_id"]},
		{&c.ApplicationCredentialID, v["application_credential_id"]},
		{&c.ApplicationCredentialName, v["application_credential_name"]},
		{&c.ApplicationCredentialSecret, v["application_credential_secret"]},
		{&c.Region, v["region_name"]},
		{&c.EndpointType, cmp.Or(v["interface"], v["endpoint_type"])},
		{&c.CAFile, home(v["cacert"])},
		{&c.CertFile, home(v["cert"])},
		{&c.KeyFile, home(v["key"])},
		{&c.TLSInsecure, insecure(v)},
	} {
		*one.field = cmp.Or(*one.field, one.value)
	}
	return nil
}

// insecure returns what verify, or insecure, means for tls-insecure.
func insecure(v map[string]string) string {
	no := []string{"false", "no", "off", "0"}
	if slices.Contains(no, strings.ToLower(v["verify"])) || v["insecure"] != "" && !slices.Contains(no, strings.ToLower(v["insecure"])) {
		return "true"
	}
	return ""
}

// home replaces the ~ at the beginning of a path.
func home(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	if dir, err := os.UserHomeDir(); ok && err == nil {
		return filepath.Join(dir, rest)
	}
	return path
}
