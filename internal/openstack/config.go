package openstack

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/gcfg.v1"
	"gopkg.in/warnings.v0"
)

// Where a node can learn who it is, in the words of search-order.
const (
	ConfigDrive     = "configDrive"
	MetadataService = "metadataService"
)

// Config is a cloud.conf, or several that were read over one another.
type Config struct {
	// Global holds the clouds by the name of their section: "" for [Global],
	// "name" for [Global "name"].
	Global       map[string]*CloudConfig
	BlockStorage BlockStorage
	Metadata     Metadata

	paths  []string
	unused []Unused
}

// Unused returns the keys and sections of the files that have no effect, each once.
func (c Config) Unused() []Unused { return c.unused }

// BlockStorage is the section [BlockStorage], shared by all clouds.
type BlockStorage struct {
	// NodeVolumeAttachLimit is the most volumes for one node; 0 where unset.
	NodeVolumeAttachLimit int64 `gcfg:"node-volume-attach-limit"`
	// IgnoreVolumeAZ leaves a volume's zone out of where it can be used.
	IgnoreVolumeAZ bool `gcfg:"ignore-volume-az"`
	// IgnoreVolumeMicroversion asks Cinder for no microversion where a
	// request does not need one.
	IgnoreVolumeMicroversion bool `gcfg:"ignore-volume-microversion"`
}

// Metadata is the section [Metadata].
type Metadata struct {
	// SearchOrder is a comma separated list of ConfigDrive and
	// MetadataService; ReadConfig fills in the default.
	SearchOrder string `gcfg:"search-order"`
	// RequestTimeout bounds a question to the metadata service, with its repetitions; 0 where unset.
	RequestTimeout Duration `gcfg:"request-timeout"`
}

// Order returns the elements of SearchOrder.
func (m Metadata) Order() []string {
	var order []string
	for element := range strings.SplitSeq(m.SearchOrder, ",") {
		if element = strings.TrimSpace(element); element != "" {
			order = append(order, element)
		}
	}
	return order
}

// Duration is a time.Duration that reads as "30s" in a file.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Cloud returns the cloud of a section [Global "name"], or of [Global] for an
// empty name.
func (c Config) Cloud(name string) (CloudConfig, error) {
	cloud, ok := c.Global[name]
	if !ok {
		return CloudConfig{}, fmt.Errorf("cloud config %s: there is no section %s", strings.Join(c.paths, ", "), section(name))
	}
	return *cloud, nil
}

// ReadConfig reads files one over the other: a key of a later file replaces
// the same key of an earlier one. Sections and keys that it does not know are
// told in Unused, as the files are shared with other programs. What the clouds
// need to be complete is checked by Connect, since a node does without.
// Errors are one line that names the file and the line or the key.
func ReadConfig(paths ...string) (Config, error) {
	cfg := Config{paths: paths}
	if len(paths) == 0 {
		return cfg, errors.New("cloud config: no file is given")
	}
	for _, path := range paths {
		text, err := readConfigFile(path)
		if err == nil {
			err = cfg.parse(path, text)
		}
		if err != nil {
			return cfg, fmt.Errorf("cloud config %s: %w", path, err)
		}
	}
	for name, cloud := range cfg.Global {
		cloud.source = strings.Join(paths, ", ") + " " + section(name)
		tell := func(key, reason string) {
			cfg.unused = append(cfg.unused, Unused{strings.Join(paths, ", "), section(name), key, reason})
		}
		if cloud.TLSInsecure != "" && cloud.TLSInsecure != "true" && !strings.EqualFold(cloud.TLSInsecure, "false") {
			tell("tls-insecure", "certificates are verified: only the value true, in small letters, turns that off")
		}
		if cloud.CloudsFile+cloud.Cloud != "" && !cloud.UseClouds {
			tell("clouds-file, cloud", "no clouds.yaml is read unless use-clouds is true")
		}
	}
	if cfg.Metadata.SearchOrder == "" {
		cfg.Metadata.SearchOrder = ConfigDrive + "," + MetadataService
	}
	order := cfg.Metadata.Order()
	for _, element := range order {
		if element != ConfigDrive && element != MetadataService {
			return cfg, fmt.Errorf("cloud config %s: search-order in [Metadata] has %q, which is neither %s nor %s",
				strings.Join(paths, ", "), element, ConfigDrive, MetadataService)
		}
	}
	if len(order) == 0 || len(order) > 2 || len(slices.Compact(order)) != len(order) {
		return cfg, fmt.Errorf("cloud config %s: search-order in [Metadata] is to name one or two different places", strings.Join(paths, ", "))
	}
	return cfg, nil
}

// maxConfigSize is far above any cloud.conf; it keeps a wrong path from
// filling the memory.
const maxConfigSize = 1 << 20

// readConfigFile reads a file whole.
func readConfigFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // #nosec G703 -- a path from the operator
	if err != nil {
		return nil, reason(err)
	}
	if info.IsDir() {
		return nil, errors.New("is a directory")
	}
	if info.Size() > maxConfigSize {
		return nil, fmt.Errorf("is %d bytes large, more than any configuration", info.Size())
	}
	text, err := os.ReadFile(path) // #nosec G304 -- a path from the operator
	return text, reason(err)
}

// parse reads the text of a file over what there is.
func (c *Config) parse(path string, text []byte) error {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	err := gcfg.ReadInto(c, bytes.NewReader(text))
	for _, warning := range warnings.WarningsOnly(err) {
		if found, ok := unused(path, warning); ok && !slices.Contains(c.unused, found) {
			c.unused = append(c.unused, found)
		}
	}
	if err := gcfg.FatalOnly(err); err != nil {
		return readable(err)
	}
	return nil
}

// reason takes the operation and the path off an error of the os package, since
// the path is told already.
func reason(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

var (
	// errorLocation is how gcfg ends an error about a value, or about what it does not know.
	errorLocation = regexp.MustCompile(`(?s)^(.*) at section "([^"]*)"(?:, subsection "([^"]*)")?(?:, variable "([^"]*)")?$`)
	// position is how gcfg begins an error about the form of a file.
	position = regexp.MustCompile(`(?s)^(\d+):(\d+): (.*)$`)
)

// readable says in one line, and without the value, what gcfg complains about.
func readable(err error) error {
	text := strings.TrimSpace(err.Error())
	if m := errorLocation.FindStringSubmatch(text); m != nil {
		header := header(m[2], m[3])
		what := "has a value that can't be read"
		if strings.Contains(m[1], "blank") {
			what = "has no value"
		}
		return fmt.Errorf("key %s in %s %s", m[4], header, what)
	}
	if m := position.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("line %s, column %s: %s", m[1], m[2], oneLine(m[3]))
	}
	return errors.New(oneLine(text))
}

func section(name string) string { return header("Global", name) }

// header returns the line that begins a section.
func header(section, subsection string) string {
	if subsection == "" {
		return "[" + section + "]"
	}
	return fmt.Sprintf("[%s %q]", section, subsection)
}

func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
