package blockdev

import (
	"context"
	"errors"
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
	// Locate tells where the cloud says that a volume's disk is. It is asked only
	// when no disk has the volume's serial, see byPath; may be nil.
	Locate func(ctx context.Context, volumeID string) (Location, error)
	// Serials remembers what disks have answered. Without it each look asks anew,
	// and leaves a goroutine behind for each disk that doesn't answer.
	Serials *Serials
}

// Find implements Finder. Exactly one disk must be the volume's; it must have
// its node and a capacity, and neither it nor a partition of it may be part of
// something else or of the running system.
func (s System) Find(ctx context.Context, volumeID string) (Disk, error) {
	if err := checkVolumeID(volumeID); err != nil {
		return Disk{}, err
	}
	sys := sysfs(or(s.SysDir, "/sys"))
	matches, mute, looked, err := s.matches(ctx, sys, volumeID)
	if err != nil {
		return Disk{}, err
	}
	switch len(matches) {
	case 0:
		if len(mute) > 0 {
			return Disk{}, fmt.Errorf("volume %s: %w: none of %d disks has its serial, but %s", volumeID, ErrNotFound, looked, untold(mute))
		}
		d, err := Disk{}, ErrNotFound
		if s.Locate != nil {
			d, err = s.byPath(ctx, sys, volumeID)
		}
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("volume %s: %w: none of %d disks has its serial", volumeID, err, looked)
		}
		return d, err
	case 1:
	default:
		return Disk{}, fmt.Errorf("volume %s: %w: more than one disk has its serial: %s",
			volumeID, ErrUnsafe, strings.Join(names(matches), ", "))
	}
	name := matches[0].name
	d, err := prove(sys, or(s.ProcDir, "/proc"), volumeID, name, s.node(name))
	if err != nil {
		return Disk{}, err
	}
	if d.sequence != matches[0].sequence {
		return Disk{}, fmt.Errorf("volume %s: %w: %s was replaced while it was looked at", volumeID, ErrNotFound, name)
	}
	return d, nil
}

// match is a disk that has a volume's serial.
type match struct {
	name     string
	sequence uint64 // at the time
}

func names(matches []match) []string {
	var all []string
	for _, m := range matches {
		all = append(all, m.name)
	}
	return all
}

// untold says of disks that they don't tell what they are.
func untold(mute []string) string {
	return strings.Join(mute, ", ") + " could not be asked: all places in the queue are taken, by requests that the storage has not answered"
}

// matches returns all disks that have a volume's serial, those that don't tell
// theirs, and how many it has looked at.
func (s System) matches(ctx context.Context, sys sysfs, volumeID string) (found []match, mute []string, looked int, err error) {
	disks, err := sys.disks()
	if err != nil {
		return nil, nil, 0, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	look := s.look(sys)
	for _, name := range disks {
		if err := ctx.Err(); err != nil {
			return nil, nil, 0, fmt.Errorf("volume %s: look for its disk: %w", volumeID, err)
		}
		before := sys.sequence(name)
		names, silent := look.names(name, before)
		switch {
		case silent:
			mute = append(mute, name)
		case compare(volumeID, names) != other:
			found = append(found, match{name, before})
		}
	}
	return found, mute, len(disks), nil
}

// Candidates returns all disks that have a volume's serial, proven or not: for
// whoever wants to know that none of them is in use. A disk whose place was given
// to another one without a word to the kernel is among them.
func (s System) Candidates(ctx context.Context, volumeID string) ([]Disk, error) {
	if err := checkVolumeID(volumeID); err != nil {
		return nil, err
	}
	sys := sysfs(or(s.SysDir, "/sys"))
	matches, mute, _, err := s.matches(ctx, sys, volumeID)
	if err != nil {
		return nil, err
	}
	if len(matches) == 0 && len(mute) > 0 {
		return nil, fmt.Errorf("volume %s: %w: its disk may be among those that don't tell: %s", volumeID, ErrUnsafe, untold(mute))
	}
	if len(matches) == 0 && s.Locate != nil {
		d, err := s.Find(ctx, volumeID)
		if err != nil {
			return nil, err
		}
		return []Disk{d}, nil
	}
	var disks []Disk
	for _, m := range matches {
		number, err := sys.number(m.name)
		if errors.Is(err, ErrNotFound) {
			continue // it has just gone
		}
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", volumeID, err)
		}
		disks = append(disks, Disk{
			VolumeID: volumeID, Path: s.node(m.name), Name: m.name, Number: number, Size: sys.size(m.name),
			sysDir: string(sys), procDir: or(s.ProcDir, "/proc"), sequence: m.sequence,
		})
	}
	return disks, nil
}

// node returns the path of a disk's node. A slash in a kernel name is written
// as an exclamation mark in sysfs.
func (s System) node(name string) string {
	return filepath.Join(or(s.DevDir, "/dev"), strings.ReplaceAll(name, "!", "/"))
}

// watched returns the directories that change when a disk comes.
func (s System) watched() []string { return deviceDirs(or(s.DevDir, "/dev")) }
