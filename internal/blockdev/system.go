package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/inflight"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// System finds disks by the serial that sysfs reports, for virtio-blk, SCSI
// and NVMe alike. It is the Finder of production. The zero value is ready; it must
// not be copied after its first use.
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
	// Poll is how often Wait looks without having been woken: a net for events that
	// never come, such as a serial that appears after the node. 1 s when 0.
	Poll time.Duration

	reads
	serials  serials
	listings inflight.Group[[]listedDisk]
	// locations are questions to the cloud, by volume id.
	locations inflight.Group[Location]
}

// Find implements Finder. Exactly one disk must be the volume's; it must have
// its node and a capacity, and neither it nor a partition of it may be in use by
// something else or by the running system. Other devices may be built upon it as
// long as nobody has them open: see Holder.
func (s *System) Find(ctx context.Context, volumeID string) (Disk, error) {
	return s.find(ctx, volumeID, nil)
}

// find is Find, which asks the cloud only until next is closed.
func (s *System) find(ctx context.Context, volumeID string, next <-chan struct{}) (Disk, error) {
	matches, unanswered, looked, err := s.matches(ctx, volumeID)
	if err != nil {
		return Disk{}, err
	}
	switch len(matches) {
	case 0:
		if len(unanswered) > 0 {
			return Disk{}, fmt.Errorf("volume %s: %w: none of %d disks has its serial, but %s",
				volumeID, ErrNotFound, looked, noAnswer(unanswered))
		}
		d, err := Disk{}, ErrNotFound
		if s.Locate != nil {
			d, err = s.byPath(ctx, volumeID, next)
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
	d, err := prove(s.sysfs(), s.procDir(), volumeID, name, s.node(name))
	if err != nil {
		return Disk{}, err
	}
	if d.sequence != matches[0].sequence {
		return Disk{}, fmt.Errorf("volume %s: %w: %s was replaced while it was looked at", volumeID, ErrNotFound, name)
	}
	return d, nil
}

// Wait implements Finder. It has those SCSI hosts scanned that announce nothing.
func (s *System) Wait(ctx context.Context, volumeID string) (Disk, error) {
	return s.wait(ctx, s.Poll, s.sysfs().silentHosts, func(ctx context.Context, next <-chan struct{}) (Disk, error) {
		return s.findWithCapacity(ctx, volumeID, next)
	})
}

// findWithCapacity is find, which has the kernel ask a disk without capacity again.
func (s *System) findWithCapacity(ctx context.Context, volumeID string, next <-chan struct{}) (Disk, error) {
	d, err := s.find(ctx, volumeID, next)
	var empty emptyError
	if !errors.As(err, &empty) {
		return d, err
	}
	_, rescanned := s.rescans.Do(ctx, empty.key(), func() (struct{}, error) {
		_, err := rescan(empty.Disk)
		return struct{}{}, err
	})
	if rescanned != nil {
		if ctx.Err() == nil {
			logging.From(ctx).Warn("a disk without capacity could not be asked again", zap.String("device", empty.Path), zap.Error(rescanned))
		}
		return d, err
	}
	return s.find(ctx, volumeID, next)
}

// Candidates implements Finder. A disk whose place was given to another one without
// a word to the kernel is among them.
func (s *System) Candidates(ctx context.Context, volumeID string) ([]Disk, error) {
	matches, unanswered, _, err := s.matches(ctx, volumeID)
	if err != nil {
		return nil, err
	}
	if len(matches) == 0 && len(unanswered) > 0 {
		return nil, fmt.Errorf("volume %s: %w: its disk may be among those that don't answer: %s", volumeID, ErrUnsafe, noAnswer(unanswered))
	}
	if len(matches) == 0 && s.Locate != nil {
		d, err := s.Find(ctx, volumeID)
		if err != nil {
			return nil, err
		}
		return []Disk{d}, nil
	}
	sys := s.sysfs()
	var disks []Disk
	for _, m := range matches {
		d, err := diskOf(sys, s.procDir(), volumeID, m.name, s.node(m.name))
		if errors.Is(err, ErrNotFound) {
			continue // it has just gone
		}
		if err != nil {
			return nil, err
		}
		d.sequence = m.sequence
		disks = append(disks, d)
	}
	return disks, nil
}

// matches returns all disks that have a volume's serial, the names of those that
// don't tell theirs, and how many it has looked at.
func (s *System) matches(ctx context.Context, volumeID string) (found []listedDisk, unanswered []string, looked int, err error) {
	if err := CheckVolumeID(volumeID); err != nil {
		return nil, nil, 0, err
	}
	disks, err := s.listDisks(ctx)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("volume %s: look for its disk: %w", volumeID, err)
	}
	for _, d := range disks {
		switch {
		case d.unanswered:
			unanswered = append(unanswered, d.name)
		case fits(volumeID, d.identities):
			found = append(found, d)
		}
	}
	return found, unanswered, len(disks), nil
}

func names(disks []listedDisk) []string {
	var all []string
	for _, d := range disks {
		all = append(all, d.name)
	}
	return all
}

// noAnswer says of disks that they don't tell what they are.
func noAnswer(disks []string) string {
	return strings.Join(disks, ", ") + " could not be asked: all places in the queue are taken, by requests that the storage has not answered"
}

// emptyError is the error for a disk that is there and can't be read. The kernel asks
// a SCSI disk for its capacity once: one that didn't answer at that moment, or has
// come back to its place on a host that announces nothing, has none for ever.
type emptyError struct{ Disk }

func (e emptyError) Error() string { return e.Path + " has no capacity (yet)" }

// diskOf builds the Disk of a volume that goes by name in sysfs and by path in the device
// directory.
func diskOf(sys sysfs, procDir, volumeID, name, path string) (Disk, error) {
	number, err := sys.number(name)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	return Disk{
		VolumeID: volumeID, Path: path, Name: name, Number: number, Size: sys.size(name),
		sysDir: string(sys), procDir: procDir, sequence: sys.sequence(name),
	}, nil
}

// prove returns what diskOf does, or says why the disk must not be touched.
func prove(sys sysfs, procDir, volumeID, name, path string) (Disk, error) {
	d, err := diskOf(sys, procDir, volumeID, name, path)
	if err != nil {
		return Disk{}, err
	}
	if err := d.Verify(); err != nil {
		return Disk{}, err
	}
	if d.Size == 0 {
		return Disk{}, fmt.Errorf("volume %s: %w: %w", volumeID, ErrNotFound, emptyError{d})
	}
	holders, err := Holders(d)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	if users := foreignUsers(holders); len(users) > 0 {
		return Disk{}, fmt.Errorf("volume %s: %w: %s is used by %v", volumeID, ErrHeld, path, users)
	}
	return d, nil
}

func (s *System) sysfs() sysfs    { return sysfs(cmp.Or(s.SysDir, "/sys")) }
func (s *System) procDir() string { return cmp.Or(s.ProcDir, "/proc") }

// node returns the path of a disk's node. A slash in a kernel name is written
// as an exclamation mark in sysfs.
func (s *System) node(name string) string {
	return filepath.Join(cmp.Or(s.DevDir, "/dev"), strings.ReplaceAll(name, "!", "/"))
}
