package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// Check makes sure that an unmounted filesystem is fit to be mounted. An ext
// filesystem that has errors on record, or no journal and wasn't unmounted cleanly, is
// repaired as far as e2fsck does without asking (-p); where that isn't enough it
// fails with ErrCorrupt and e2fsck's own words. Nothing else needs it: the kernel
// replays journals, and the logs of XFS and btrfs, when it mounts. Of a read-only device
// nothing is checked, since it is mounted without its journal being replayed.
//
// It fails with ErrBusy when something uses the device. A check waits for its
// turn, see checksAtOnce. One that has begun runs to its end when ctx ends before;
// a later call waits for it.
func (f *FS) Check(ctx context.Context, path string, t *Type) error {
	if t.repair == nil {
		return nil
	}
	unclean, err := abandonable(ctx, f, path, func() (bool, error) { return needsCheck(path, t) })
	if err == nil && unclean {
		err = f.onDevice(ctx, path, "check", func(detached context.Context, d *handle) error {
			return f.whenItsTurn(ctx, d, path, func() error { return t.repair(detached, f, path) })
		})
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	return nil
}

// needsCheck tells whether there is an unclean filesystem that could be written to.
func needsCheck(path string, t *Type) (bool, error) {
	d, err := openDevice(path)
	if err != nil {
		return false, err
	}
	defer d.close()
	s, err := readSuperblock(d)
	if err == nil && s.of.family != t.family {
		err = fmt.Errorf("%w: it holds %s, not %s", ErrUnsupported, s.of.Name, t.Name)
	}
	return s.unclean && !d.readOnly, err
}

// Grow makes the filesystem as large as its device when it is smaller, reads
// its size again and returns it in bytes. With a mountpoint, the device must be
// mounted exactly there. With "" it must not be in use: ext is then checked in
// full (e2fsck -f) and grown, XFS and btrfs fail with ErrNeedsMount if they are
// smaller than the device.
//
// It fails with ErrOnlineGrowth for a mounted ext filesystem when the kernel
// doesn't allow it, see Type.GrowsOnline, and with ErrReadOnly for what is mounted
// read-only. Growth of what isn't mounted waits for its turn, see checksAtOnce.
// What has begun runs to its end when ctx ends before; a later call for the same
// device waits for it.
func (f *FS) Grow(ctx context.Context, path, mountpoint string) (int64, error) {
	err := f.onDevice(ctx, path, "grow "+mountpoint, func(detached context.Context, d *handle) error {
		return f.grow(ctx, detached, d, path, mountpoint)
	})
	if err != nil {
		return 0, fmt.Errorf("grow the filesystem on %s: %w", path, err)
	}
	return f.Size(ctx, path, mountpoint)
}

// grow does the work of Grow. When ctx ends, what has begun goes on.
func (f *FS) grow(ctx, detached context.Context, d *handle, path, mountpoint string) error {
	deviceSize, before, err := f.measure(path, mountpoint)
	if err != nil || before.full(deviceSize) {
		return err
	}
	switch {
	case mountpoint != "":
		err = f.growMounted(detached, mountpoint, before, deviceSize)
	case before.of.growUnmounted == nil:
		err = fmt.Errorf("%s with %d bytes %w", before.of.Name, before.size, ErrNeedsMount)
	default:
		err = f.whenItsTurn(ctx, d, path, func() error { return before.of.growUnmounted(detached, f, path) })
	}
	if err != nil {
		return err
	}
	_, after, err := f.measure(path, mountpoint)
	if err != nil {
		return fmt.Errorf("read its size again: %w", err)
	}
	if after.size <= before.size || !after.full(deviceSize) {
		return fmt.Errorf("the tools reported success, but the filesystem has %d bytes on a device of %d", after.size, deviceSize)
	}
	logging.From(ctx).Info("filesystem grown", zap.String("device", path),
		zap.Int64("from", before.size), zap.Int64("to", after.size))
	return nil
}

// growMounted grows a filesystem through its mount.
func (f *FS) growMounted(ctx context.Context, mountpoint string, s superblock, deviceSize int64) error {
	m, there, err := f.Lookup(mountpoint)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%s: %w", mountpoint, ErrNotMounted)
	}
	if m.GivenUp {
		return fmt.Errorf("%w: %s", ErrGivenUp, mountpoint)
	}
	if !m.Writable() {
		return fmt.Errorf("mounted %w at %s", ErrReadOnly, mountpoint)
	}
	if !s.of.GrowsOnline() {
		return fmt.Errorf("%s needs CAP_SYS_RESOURCE to grow: %w", s.of.Name, ErrOnlineGrowth)
	}
	return s.of.growMounted(ctx, f, m, s, deviceSize)
}

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
	if err == nil && s.devices != 1 {
		err = fmt.Errorf("%w: %s on %d disks", ErrUnsupported, s.of.Name, s.devices)
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
		return superblock{}, fmt.Errorf("device %s is %w at %s", blockdev.FormatNumber(d.number), ErrNotMounted, mountpoint)
	}
	// What can be read from the device is right in all but the size, and for ext, which
	// keeps its superblock in the device's own page cache, in that too.
	s, err := readSuperblock(d)
	if err != nil || s.of.sizeMounted == nil {
		return s, err
	}
	root, err := os.OpenFile(m.Target, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return superblock{}, err
	}
	err = errors.Join(s.of.sizeMounted(root, &s), root.Close())
	return s, err
}

// openMount opens the root of a mount, provided that it is of the filesystem
// with the number that stat reports in st_dev.
func openMount(target string, number uint64) (*os.File, error) {
	f, err := os.OpenFile(target, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("stat %s: %w", target, err), f.Close())
	}
	if st.Dev != number {
		return nil, errors.Join(fmt.Errorf("%w: %s is device %s, not %s", ErrNotMounted, target,
			blockdev.FormatNumber(st.Dev), blockdev.FormatNumber(number)), f.Close())
	}
	return f, nil
}
