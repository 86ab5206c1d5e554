package blockdev

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Mapping is the device that shows what an encrypted volume holds while it is
// open: one of device-mapper's, made by dm-crypt from LUKS2. As a Disk it can be
// verified, pinned and looked at like the volume's own.
type Mapping struct {
	Disk
	// Title is its name for device-mapper and cryptsetup.
	Title string
}

// MappingTitle returns the name that the mapping of a volume has. It is made of
// the volume's id: the UUID of LUKS is no name, since a clone has its origin's.
func MappingTitle(volumeID string) string {
	return "cinder-csi-" + strings.ToLower(volumeID)
}

// Mapping implements Finder.
func (s *System) Mapping(volumeID string) (Mapping, bool, error) {
	if err := CheckVolumeID(volumeID); err != nil {
		return Mapping{}, false, err
	}
	sys := s.sysfs()
	title := MappingTitle(volumeID)
	name, found, err := sys.mapping(title)
	if err != nil || !found {
		return Mapping{}, false, err
	}
	if kind := sys.text(name, "dm", "uuid"); !isMappingOf(title, kind) {
		return Mapping{}, false, fmt.Errorf("volume %s: %w: %s has the name %s, but is no LUKS2 mapping (%q)",
			volumeID, ErrUnsafe, name, title, kind)
	}
	d, err := diskOf(sys, s.procDir(), volumeID, name, s.node(name))
	return Mapping{Disk: d, Title: title}, err == nil, err
}

// Mappings implements Finder.
func (s *System) Mappings() ([]Mapping, error) {
	sys := s.sysfs()
	names, err := sys.disks()
	if err != nil {
		return nil, err
	}
	var found []Mapping
	for _, name := range names {
		volumeID, ours := strings.CutPrefix(sys.text(name, "dm", "name"), MappingTitle(""))
		if !ours || !isUUID(volumeID) {
			continue
		}
		m, there, err := s.Mapping(volumeID)
		if err != nil {
			return found, err
		}
		if there {
			found = append(found, m)
		}
	}
	return found, nil
}

// On tells whether the mapping is built upon that very disk and nothing else. A
// disk that was pulled while its mapping was open may come back by the same name
// and number, but the kernel doesn't list the mapping among its holders then.
func (m Mapping) On(d Disk) (bool, error) {
	sys := sysfs(cmp.Or(d.sysDir, "/sys"))
	holders, err := sys.holderNames(d.Name)
	if err != nil || !slices.Contains(holders, m.Name) {
		return false, err
	}
	slaves, err := os.ReadDir(sys.block(m.Name, "slaves"))
	if err != nil {
		return false, fmt.Errorf("what %s is built upon: %w", m.Name, err)
	}
	if len(slaves) != 1 || slaves[0].Name() != d.Name {
		return false, nil
	}
	number, err := sys.number(filepath.Join(m.Name, "slaves", d.Name))
	return err == nil && number == d.Number, err
}

// mapping returns the kernel's name of the device-mapper device with that title.
// All of them are called dm-0, dm-1 and so on; no other is read, since a server may
// have many.
func (s sysfs) mapping(title string) (name string, found bool, err error) {
	entries, err := os.ReadDir(filepath.Join(string(s), "block"))
	if err != nil {
		return "", false, fmt.Errorf("list disks: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "dm-") && s.text(e.Name(), "dm", "name") == title {
			return e.Name(), true, nil
		}
	}
	return "", false, nil
}

// isMappingOf tells whether a device-mapper UUID is what cryptsetup gives to a
// LUKS2 mapping of that title.
func isMappingOf(title, kind string) bool {
	return regexp.MustCompile(`^CRYPT-LUKS2-[0-9a-f]{32}-` + regexp.QuoteMeta(title) + `$`).MatchString(kind)
}

// isOwnMapping tells whether a holder of a volume's disk is its mapping.
func (s sysfs) isOwnMapping(volumeID, holder string) bool {
	title := MappingTitle(volumeID)
	return s.text(holder, "dm", "name") == title && isMappingOf(title, s.text(holder, "dm", "uuid"))
}
