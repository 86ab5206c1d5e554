package blockdev

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// System finds disks by the serial that sysfs reports, for virtio-blk, SCSI
// and NVMe alike. It is the Finder of production. The zero value is ready.
//
// The names that count are the volume's id, its first 20 characters (all that
// virtio-blk carries), and the id without dashes (a WWN).
type System struct {
	// DevDir is where device nodes are, /dev when empty.
	DevDir string
	// SysDir is where sysfs is mounted, /sys when empty.
	SysDir string
	// ProcDir is where procfs is mounted, /proc when empty.
	ProcDir string
}

// Find implements Finder. Exactly one disk must be the volume's; it must have
// its node and a capacity, and neither it nor a partition of it may be part of
// something else or of the running system.
func (s System) Find(ctx context.Context, volumeID string) (Disk, error) {
	if err := checkVolumeID(volumeID); err != nil {
		return Disk{}, err
	}
	sys := sysfs(or(s.SysDir, "/sys"))
	disks, err := sys.disks()
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	var matches []string
	var sequence uint64
	for _, name := range disks {
		if err := ctx.Err(); err != nil {
			return Disk{}, fmt.Errorf("volume %s: look for its disk: %w", volumeID, err)
		}
		before := sys.sequence(name)
		if compare(volumeID, sys.identities(name)) != other {
			matches = append(matches, name)
			sequence = before
		}
	}
	switch len(matches) {
	case 0:
		return Disk{}, fmt.Errorf("volume %s: %w: none of %d disks has its serial", volumeID, ErrNotFound, len(disks))
	case 1:
	default:
		return Disk{}, fmt.Errorf("volume %s: %w: more than one disk has its serial: %s",
			volumeID, ErrUnsafe, strings.Join(matches, ", "))
	}
	name := matches[0]
	d, err := prove(sys, or(s.ProcDir, "/proc"), volumeID, name, s.node(name))
	if err != nil {
		return Disk{}, err
	}
	if d.sequence != sequence {
		return Disk{}, fmt.Errorf("volume %s: %w: %s was replaced while it was looked at", volumeID, ErrNotFound, name)
	}
	return d, nil
}

// node returns the path of a disk's node. A slash in a kernel name is written
// as an exclamation mark in sysfs.
func (s System) node(name string) string {
	return filepath.Join(or(s.DevDir, "/dev"), strings.ReplaceAll(name, "!", "/"))
}

// watched returns the directories that change when a disk comes.
func (s System) watched() []string { return deviceDirs(or(s.DevDir, "/dev")) }
