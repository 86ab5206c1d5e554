package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Refresh implements Finder.
func (r *reads) Refresh(ctx context.Context, d Disk) (Disk, error) {
	size, err := r.refreshes.DoAfter(ctx, d.key(), func() (int64, error) { return refresh(d) })
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: read the capacity of %s: %w", d.VolumeID, d.Path, err)
	}
	d.Size = size
	return d, nil
}

func refresh(d Disk) (int64, error) {
	if err := d.Verify(); err != nil {
		return 0, err
	}
	rescanned, err := rescan(d)
	if err != nil {
		return 0, err
	}
	sys := sysfs(cmp.Or(d.sysDir, "/sys"))
	if rescanned && !d.fits(sys.identities(d.Name)) {
		return 0, fmt.Errorf("%w: %s had its serial, but has it no more: its place was given to another disk", ErrUnsafe, d.Path)
	}
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	err = errors.Join(err, f.Close())
	if err != nil {
		return 0, err
	}
	// The disk may have changed between the first look and the opening.
	return size, d.Verify()
}

// fits tells whether a disk still has the names that it was found by.
func (d Disk) fits(identities []identity) bool {
	if d.byAddress {
		return !namesVolume(identities)
	}
	return fits(d.VolumeID, identities)
}

// rescan tells a SCSI disk, and no other, to ask its target for the capacity and
// for its name. It reports whether it is one.
func rescan(d Disk) (bool, error) {
	path := sysfs(cmp.Or(d.sysDir, "/sys")).block(d.Name, "device", "rescan")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // another bus
	}
	if err != nil {
		return false, fmt.Errorf("rescan: %w", err)
	}
	_, err = f.WriteString("1")
	if err = errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("rescan: %w", err)
	}
	return true, nil
}
