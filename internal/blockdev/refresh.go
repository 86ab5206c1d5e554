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
// place of d, and with ErrNotFound when it has gone. A bus that doesn't answer
// is left behind when ctx ends.
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
	if err := rescan(d); err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", d.VolumeID, err)
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

// rescan tells a SCSI disk, and no other, to ask its target for the capacity.
func rescan(d Disk) error {
	path := sysfs(or(d.sysDir, "/sys")).block(d.Name, "device", "rescan")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // another bus
	}
	if err != nil {
		return fmt.Errorf("rescan: %w", err)
	}
	_, err = f.WriteString("1")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("rescan: %w", err)
	}
	return nil
}

// capacity returns the size of an open block device in bytes.
func capacity(f *os.File) (int64, error) {
	return f.Seek(0, io.SeekEnd)
}
