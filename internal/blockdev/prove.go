package blockdev

import (
	"fmt"
	"path/filepath"
	"strings"
)

// prove builds the Disk of a volume that goes by name in sysfs and by path in
// the device directory, or says why it must not be touched.
func prove(sys sysfs, procDir, volumeID, name, path string) (Disk, error) {
	number, err := sys.number(name)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	d := Disk{
		VolumeID: volumeID, Path: path, Name: name, Number: number, Size: sys.size(name),
		sysDir: string(sys), procDir: procDir, sequence: sys.sequence(name),
	}
	if err := d.Verify(); err != nil {
		return Disk{}, err
	}
	if d.Size == 0 {
		return Disk{}, fmt.Errorf("volume %s: %w: %s has no capacity (yet)", volumeID, ErrNotFound, path)
	}
	users, err := foreignHolders(d)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	if len(users) > 0 {
		return Disk{}, fmt.Errorf("volume %s: %w: %s is used by %s", volumeID, ErrUnsafe, path, strings.Join(users, ", "))
	}
	return d, nil
}

// or returns value, or fallback where it is empty.
func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return filepath.Clean(value)
}
