package filesystem

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The options of mkfs that a storage class may set, and the keys of those whose
// value is a list of key=value; nil where the value is free. What isn't here
// isn't passed on: force, dry runs, other devices, files of the node.
func allowedOptions(fsType string) map[string][]string {
	switch fsType {
	case ext2, ext3, ext4:
		return map[string][]string{
			"-b": nil, "-C": nil, "-g": nil, "-G": nil, "-i": nil, "-I": nil, "-J": {"size", "fast_commit_size"},
			"-L": nil, "-m": nil, "-N": nil, "-O": nil, "-T": nil,
			"-E": {
				"stride", "stripe_width", "stripe-width", "resize", "lazy_itable_init", "lazy_journal_init",
				"num_backup_sb", "packed_meta_blocks", "root_owner", "discard", "nodiscard", "quotatype",
				"encoding", "encoding_flags", "hash_seed",
			},
		}
	case xfs:
		return map[string][]string{
			"-b": {"size"}, "-L": nil,
			"-d": {"agcount", "agsize", "su", "sw", "sunit", "swidth", "noalign", "concurrency"},
			"-i": {"size", "perblock", "maxpct", "align", "attr", "sparse", "nrext64", "exchange", "projid32bit"},
			"-l": {"size", "version", "su", "sunit", "lazy-count", "concurrency"},
			"-m": {"crc", "finobt", "reflink", "rmapbt", "bigtime", "inobtcount", "autofsck", "metadir"},
			"-n": {"size", "version", "ftype", "parent"},
			"-s": {"size"},
		}
	case btrfs:
		return map[string][]string{
			"-O": nil, "-R": nil, "-L": nil, "-n": nil, "--nodesize": nil, "-s": nil, "--sectorsize": nil,
			"-m": nil, "--metadata": nil, "-d": nil, "--data": nil, "--csum": nil, "--checksum": nil,
			"--features": nil, "--runtime-features": nil, "--label": nil,
		}
	}
	return nil
}

// option is one option of mkfs with its value.
type option struct{ name, value string }

// parseOptions reads options as a storage class gives them, each followed by
// its value, and refuses what isn't allowed.
func parseOptions(fsType string, options []string) ([]option, error) {
	allowed := allowedOptions(fsType)
	plain := regexp.MustCompile(`^[A-Za-z0-9_^][A-Za-z0-9_=,.:^+-]*$`)
	var parsed []option
	for i := 0; i < len(options); i += 2 {
		name := options[i]
		keys, ok := allowed[name]
		if !ok {
			return nil, fmt.Errorf("mkfs.%s %s: %w", fsType, name, ErrOptions)
		}
		if slices.ContainsFunc(parsed, func(o option) bool { return o.name == name }) {
			return nil, fmt.Errorf("mkfs.%s %s: %w: given twice", fsType, name, ErrOptions)
		}
		if i+1 == len(options) {
			return nil, fmt.Errorf("mkfs.%s %s: %w: its value is missing", fsType, name, ErrOptions)
		}
		value := options[i+1]
		if !plain.MatchString(value) {
			return nil, fmt.Errorf("mkfs.%s %s %q: %w", fsType, name, value, ErrOptions)
		}
		if keys != nil {
			for _, setting := range strings.Split(value, ",") {
				key, _, _ := strings.Cut(setting, "=")
				if !slices.Contains(keys, key) {
					return nil, fmt.Errorf("mkfs.%s %s %s: %w: it must be one of %s",
						fsType, name, setting, ErrOptions, strings.Join(keys, ", "))
				}
			}
		}
		parsed = append(parsed, option{name, value})
	}
	return parsed, nil
}

// preset puts options before those that were asked for, which win: into the
// same list where there is one already, unless that sets the key itself.
func preset(asked []option, name, value string) []option {
	for i, o := range asked {
		if o.name != name {
			continue
		}
		for _, setting := range strings.Split(o.value, ",") {
			if settingKey(setting) == settingKey(value) {
				return asked
			}
		}
		asked[i].value = value + "," + o.value
		return asked
	}
	return append([]option{{name, value}}, asked...)
}

// presetValue is preset for an option whose value is no list.
func presetValue(asked []option, name, value string) []option {
	if slices.ContainsFunc(asked, func(o option) bool { return o.name == name }) {
		return asked
	}
	return append([]option{{name, value}}, asked...)
}

// settingKey returns what a setting is about: no matter what it is set to, and
// whether it is turned on or off.
func settingKey(setting string) string {
	key, _, _ := strings.Cut(setting, "=")
	return strings.TrimPrefix(strings.TrimPrefix(key, "^"), "no")
}
