package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Refresh makes the kernel learn the disk's capacity anew where its bus needs
// to be told (SCSI; virtio and NVMe announce it themselves), reads it and
// returns d with it. It fails with ErrUnsafe when another disk has taken the
// place of d, also one of which the kernel had not been told: what sysfs knows
// of a SCSI disk is as old as its last scan. It fails with ErrNotFound when d
// has gone. A bus that doesn't answer is left behind when ctx ends.
func Refresh(ctx context.Context, d Disk) (Disk, error) {
	type result struct {
		disk Disk
		err  error
	}
	done := make(chan result, 1)
	go func() {
		fresh, err := refresh(d)
		done <- result{fresh, err}
	}()
	select {
	case r := <-done:
		return r.disk, r.err
	case <-ctx.Done():
		return Disk{}, fmt.Errorf("volume %s: read the capacity of %s: %w", d.VolumeID, d.Path, context.Cause(ctx))
	}
}

func refresh(d Disk) (Disk, error) {
	if err := d.Verify(); err != nil {
		return Disk{}, err
	}
	rescanned, err := rescan(d)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", d.VolumeID, err)
	}
	sys := sysfs(or(d.sysDir, "/sys"))
	if rescanned && !d.fits(sys.identities(d.Name)) {
		return Disk{}, fmt.Errorf("volume %s: %w: %s had its serial, but has it no more: its place was given to another disk",
			d.VolumeID, ErrUnsafe, d.Path)
	}
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", d.VolumeID, err)
	}
	size, err := capacity(f)
	err = errors.Join(err, f.Close())
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: capacity of %s: %w", d.VolumeID, d.Path, err)
	}
	// The disk may have changed between the first look and the opening.
	if err := d.Verify(); err != nil {
		return Disk{}, err
	}
	d.Size = size
	return d, nil
}

// fits tells whether a disk still has the names that it was found by.
func (d Disk) fits(identities []identity) bool {
	if d.byAddress {
		return !namesVolume(identities)
	}
	return compare(d.VolumeID, identities) != other
}

// rescan tells a SCSI disk, and no other, to ask its target for the capacity and
// for its name. It reports whether it is one.
func rescan(d Disk) (bool, error) {
	path := sysfs(or(d.sysDir, "/sys")).block(d.Name, "device", "rescan")
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

// capacity returns the size of an open block device in bytes.
func capacity(f *os.File) (int64, error) {
	return f.Seek(0, io.SeekEnd)
}
