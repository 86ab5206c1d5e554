package openstack

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/nearest"
)

// Unused is a key of a cloud.conf that has no effect, or a whole section where Key is
// empty, and why that is.
type Unused struct{ File, Section, Key, Reason string }

// otherPrograms are the sections, in small letters, that the cloud controller manager and
// other plugins of Kubernetes read from the same file.
func otherPrograms() []string {
	return []string{"loadbalancer", "loadbalancerclass", "networking", "route", "router", "keymanager", "identity", "nova"}
}

// withoutEffect returns why a key that the reference driver, or an older one of
// Kubernetes, knows has none here; empty for other keys.
func withoutEffect(section, key string) string {
	return map[string]string{
		"blockstorage rescan-on-resize":  "the node always reads the size of a disk anew before it grows a filesystem",
		"blockstorage bs-version":        "the driver speaks version 3 of Cinder's API",
		"blockstorage trust-device-path": "the node finds a disk by its serial number, and never by the path that Nova guesses",
		"global secret-name":             "the driver reads credentials from files and from the secrets of classes",
		"global secret-namespace":        "the driver reads credentials from files and from the secrets of classes",
		"global kubeconfig-path":         "the driver takes --kubeconfig",
	}[strings.ToLower(section+" "+key)]
}

// unused reads what gcfg says of a section or key that Config has no field for.
func unused(path string, warning error) (Unused, bool) {
	m := errorLocation.FindStringSubmatch(warning.Error())
	if m == nil {
		return Unused{}, false
	}
	section, key := m[2], m[4]
	found := Unused{File: path, Section: header(section, m[3]), Key: key}
	known := keys(section)
	switch {
	case slices.Contains(otherPrograms(), strings.ToLower(section)):
		found.Key, found.Reason = "", "the section is for other programs"
	case known == nil:
		found.Key, found.Reason = "", fmt.Sprintf("the section is unknown; the nearest to it is [%s]", nearest.Of(section, keys("")))
	case withoutEffect(section, key) != "":
		found.Reason = withoutEffect(section, key)
	case key == "":
		found.Reason = "a name in the line that begins the section is possible for [Global] alone"
	default:
		found.Reason = "the key is unknown; the nearest to it is " + nearest.Of(key, known)
	}
	return found, true
}

// keys returns those of a section, nil for one that is unknown, and the names of the
// sections for "".
func keys(section string) (names []string) {
	sections := map[string]reflect.Type{
		"Global": reflect.TypeFor[CloudConfig](), "BlockStorage": reflect.TypeFor[BlockStorage](), "Metadata": reflect.TypeFor[Metadata](),
	}
	for name, fields := range sections {
		if section == "" {
			names = append(names, name)
		}
		for i := range fields.NumField() {
			if key := fields.Field(i).Tag.Get("gcfg"); key != "" && strings.EqualFold(name, section) {
				names = append(names, key)
			}
		}
	}
	slices.Sort(names)
	return names
}
