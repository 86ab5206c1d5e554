package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Size returns how many bytes of the device the filesystem covers, which after
// the device has grown are fewer than the device has. With a mountpoint, the
// device must be mounted exactly there (else ErrNotMounted), and the kernel is
// asked; with "" the superblock is read.
func (f *FS) Size(ctx context.Context, path, mountpoint string) (int64, error) {
	s, err := abandonable(ctx, f, path, func() (superblock, error) {
		_, s, err := f.measure(path, mountpoint)
		return s, err
	})
	if err != nil {
		return 0, fmt.Errorf("size of the filesystem on %s: %w", path, err)
	}
	return s.size, nil
}

// measure reads a filesystem's size, and the size of its device.
func (f *FS) measure(path, mountpoint string) (deviceSize int64, s superblock, err error) {
	d, err := openDevice(path)
	if err != nil {
		return 0, superblock{}, err
	}
	defer d.close()
	if mountpoint == "" {
		s, err = readSuperblock(d)
	} else {
		s, err = f.measureMounted(d, mountpoint)
	}
	if err == nil && s.fsType == btrfs && s.devices != 1 {
		err = fmt.Errorf("%w: btrfs on %d disks", ErrUnsupported, s.devices)
	}
	return d.size, s, err
}

// measureMounted asks the kernel for the size of a filesystem.
func (f *FS) measureMounted(d *handle, mountpoint string) (superblock, error) {
	m, there, err := f.Lookup(mountpoint)
	if err != nil {
		return superblock{}, err
	}
	if !there || m.Number != d.number {
		return superblock{}, fmt.Errorf("device %s is %w at %s", numberString(d.number), ErrNotMounted, mountpoint)
	}
	// What can be read from the device is up to date for ext, which keeps its
	// superblock in the device's own page cache, and for the others right in
	// all but the size.
	s, err := readSuperblock(d)
	if err != nil || s.fsType == ext4 {
		return s, err
	}
	root, err := os.OpenFile(m.Target, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return superblock{}, err
	}
	if s.fsType == xfs {
		s.size, err = xfsSize(root)
	} else {
		s.size, s.deviceID, err = btrfsSize(root)
	}
	return s, errors.Join(err, root.Close())
}

// full tells whether a filesystem uses all of its device that it can.
func (s superblock) full(deviceSize int64) bool {
	return deviceSize-s.size < max(s.block, s.slack)
}
