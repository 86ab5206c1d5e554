// Package blockdev finds the disk that a volume is attached as, and proves that
// it is that volume's before anybody touches it.
//
// A disk is known by the serial that the hypervisor gave it, which is the
// volume's id, read from sysfs. Names such as /dev/vdb and links below
// /dev/disk/by-id say nothing that can be trusted: names move when disks come
// and go, links go stale when an event is missed. They serve to wake a waiter.
//
// Nothing in this package writes to a disk, and finding one doesn't open it.
package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var (
	// ErrNotFound means that no disk of that volume is there, or not yet.
	ErrNotFound = errors.New("disk not found")
	// ErrUnsafe means that a disk is there but must not be touched. The error
	// that wraps it says what was found.
	ErrUnsafe = errors.New("disk not safe to use")
	// ErrVolumeID means that what was given can't be the id of a volume.
	ErrVolumeID = errors.New("not a volume id")
)

// Disk is a whole disk that has been proven to be a volume's.
type Disk struct {
	// VolumeID is the id of the volume, a UUID.
	VolumeID string
	// Path is the device node, as in /dev/vdb.
	Path string
	// Name is the kernel's name of the disk, the one below /sys/block. For a
	// loop device it differs from the name of the node.
	Name string
	// Number is the device number (dev_t), as stat reports it in st_rdev.
	Number uint64
	// Size is the capacity in bytes when the disk was looked at, above 0.
	Size int64

	// sysDir and procDir are where sysfs and procfs are mounted.
	sysDir, procDir string
	// sequence is the kernel's number of this very disk (diskseq), which is
	// never given twice; 0 before Linux 5.15.
	sequence uint64
	// byAddress: it was not known by its serial.
	byAddress bool
}

// Finder looks for the disk of a volume.
type Finder interface {
	// Find looks once. It returns an error that wraps ErrNotFound when the
	// disk isn't there (yet), ErrUnsafe when what is there must not be touched,
	// and ErrVolumeID when volumeID can't be the id of a volume.
	Find(ctx context.Context, volumeID string) (Disk, error)
}

// Verify returns nil while d.Path still names the disk that was found. It
// returns an error that wraps ErrNotFound when the disk has gone, and one that
// wraps ErrUnsafe when another disk has taken its place.
func (d Disk) Verify() error {
	number, err := nodeNumber(d.Path)
	if err != nil {
		return fmt.Errorf("volume %s: %w", d.VolumeID, err)
	}
	if number != d.Number {
		return fmt.Errorf("volume %s: %w: %s was device %s and is %s now",
			d.VolumeID, ErrUnsafe, d.Path, numberString(d.Number), numberString(number))
	}
	sys := sysfs(d.sysDir)
	now, err := sys.number(d.Name)
	if err != nil {
		return fmt.Errorf("volume %s: %w", d.VolumeID, err)
	}
	if sequence := sys.sequence(d.Name); now != d.Number || sequence != d.sequence {
		return fmt.Errorf("volume %s: %w: %s (%s) has been replaced by another disk since it was found",
			d.VolumeID, ErrUnsafe, d.Path, d.Name)
	}
	return nil
}

// nodeNumber returns the device number of a block device node.
func nodeNumber(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return 0, fmt.Errorf("%w: device node %s is missing", ErrNotFound, path)
		}
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, fmt.Errorf("%w: %s is not a block device", ErrUnsafe, path)
	}
	return st.Rdev, nil
}

// numberString writes a device number as major:minor.
func numberString(number uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))
}
