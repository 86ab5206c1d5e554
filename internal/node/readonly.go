package node

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// readOnlyKey is the key of the publish context by which the controller tells
// that the volume was published to this server for reading only. Nova attaches
// every disk writable, so that it is this server which keeps to it.
const readOnlyKey = "cinder.csi.openstack.org/readOnly"

// publishedReadOnly reports whether a publish context says so.
func publishedReadOnly(context map[string]string) bool { return context[readOnlyKey] == "true" }

// setReadOnly makes a disk read-only, or writable, for everybody on this server.
// The mount of a device node could not: it is no obstacle to writing to the
// device. Nor is a read-only mount of ext: the kernel then still deletes the files
// that were deleted while they were open, unless the disk itself is read-only,
// which may be under the feet of a writer on another server. A disk that is
// attached again is writable again.
func setReadOnly(disk blockdev.Disk, readOnly bool) (err error) {
	f, err := os.OpenFile(disk.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("volume %s: %w", disk.VolumeID, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := disk.Verify(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("volume %s: stat %s: %w", disk.VolumeID, disk.Path, err)
	}
	if st.Rdev != disk.Number {
		return fmt.Errorf("volume %s: %w: another disk has become %s", disk.VolumeID, blockdev.ErrUnsafe, disk.Path)
	}
	is, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	if err != nil {
		return fmt.Errorf("volume %s: asking whether %s is read-only: %w", disk.VolumeID, disk.Path, err)
	}
	want := 0
	if readOnly {
		want = 1
	}
	if (is != 0) == readOnly {
		return nil
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, want); err != nil {
		return fmt.Errorf("volume %s: making %s read-only (%t): %w", disk.VolumeID, disk.Path, readOnly, err)
	}
	return nil
}
