// Package blockdev finds the disk that a volume is attached as, and proves that
// it is that volume's before anybody touches it.
//
// A disk is known by the serial that the hypervisor gave it, which is the
// volume's id, read from sysfs. Names such as /dev/vdb and links below
// /dev/disk/by-id say nothing that can be trusted: names move when disks come
// and go, links go stale when an event is missed.
//
// Nothing in this package writes to a disk, and finding one doesn't open it.
package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/inflight"
)

var (
	// ErrNotFound means that no disk of that volume is there, or not yet.
	ErrNotFound = errors.New("disk not found")
	// ErrUnsafe means that a disk is there but must not be touched. The error
	// that wraps it says what was found.
	ErrUnsafe = errors.New("disk not safe to use")
	// ErrHeld is the ErrUnsafe of a disk that something else uses.
	ErrHeld = fmt.Errorf("%w", ErrUnsafe)
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

// Finder finds the disks of a server's volumes: System those of a real server, Loop
// those of a development cloud. It returns errors that wrap ErrVolumeID when volumeID
// can't be the id of a volume.
//
// What may hang with a disk's storage is left behind when ctx ends: each disk costs
// one goroutine, however often it is asked.
type Finder interface {
	// Find looks once. It returns an error that wraps ErrNotFound when the
	// disk isn't there (yet), and ErrUnsafe when what is there must not be touched.
	Find(ctx context.Context, volumeID string) (Disk, error)
	// Wait looks for the disk of a volume until it is found or ctx ends. It is woken
	// by what the kernel and udev tell of block devices, and looks every second besides. Only ErrNotFound makes it wait: any other error is returned at
	// once. When ctx ends, the error wraps both its cause and what was last found.
	Wait(ctx context.Context, volumeID string) (Disk, error)
	// Candidates returns all disks that may be the volume's, proven or not: for
	// whoever wants to know that none of them is in use.
	Candidates(ctx context.Context, volumeID string) ([]Disk, error)
	// Mapping returns the mapping of an encrypted volume; false when none is open. It
	// may be left from a disk that has gone, see Mapping.On. It returns an error that
	// wraps ErrUnsafe when something else has the mapping's name.
	Mapping(volumeID string) (Mapping, bool, error)
	// Mappings returns those of all volumes.
	Mappings() ([]Mapping, error)
	// Refresh makes the kernel learn the disk's capacity anew where its bus needs
	// to be told (SCSI; virtio and NVMe announce it themselves), reads it and
	// returns d with it. It fails with ErrUnsafe when another disk has taken the
	// place of d, also one of which the kernel had not been told: what sysfs knows
	// of a SCSI disk is as old as its last scan. It fails with ErrNotFound when d
	// has gone.
	Refresh(ctx context.Context, d Disk) (Disk, error)
	// Claimed tells whether something holds the disk for itself, see ClaimDevice.
	Claimed(ctx context.Context, d Disk) (bool, error)
	// Disks returns all whole disks of the server, also those that are no volumes.
	Disks(ctx context.Context) ([]Listed, error)
	// AttachLimit returns how many volumes the server can have attached at once, as
	// far as can be seen from here, those counted that it has; 1 to MaxAttached.
	AttachLimit(ctx context.Context) (int64, error)
}

// reads are what the calls of a Finder share with each other.
type reads struct {
	waiter
	refreshes inflight.Group[int64] // the size
	rescans   inflight.Group[struct{}]
	claims    inflight.Group[bool]
}

// FoundBy tells what the disk was known by to be the volume's: serial, address where the
// server's metadata name one (see byPath), or backing_file for a loop device.
func (d Disk) FoundBy() string {
	switch {
	case d.byAddress:
		return "address"
	case unix.Major(d.Number) == loopMajor:
		return "backing_file"
	}
	return "serial"
}

// key names the disk as long as it is plugged in, and no other one.
func (d Disk) key() string {
	return fmt.Sprintf("%s of volume %s, device %s, number %d", d.Path, d.VolumeID, FormatNumber(d.Number), d.sequence)
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
			d.VolumeID, ErrUnsafe, d.Path, FormatNumber(d.Number), FormatNumber(number))
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

// FormatNumber writes a device number (dev_t) as major:minor.
func FormatNumber(number uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))
}
