package filesystem

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// Grow makes the filesystem as large as its device when it is smaller, reads
// its size again and returns it in bytes. With a mountpoint, the device must be
// mounted exactly there. With "" it must not be in use: ext is then checked in
// full (e2fsck -f) and grown, XFS and btrfs fail with ErrNeedsMount if they are
// smaller than the device.
//
// It fails with ErrOnlineGrowth for a mounted ext filesystem when the kernel
// doesn't allow it, see CanGrowOnline, and with ErrReadOnly for what is mounted
// read-only. Growth of what isn't mounted waits for its turn, see checksAtOnce.
// What has begun runs to its end when ctx ends before; a later call for the same
// device waits for it.
func (f *FS) Grow(ctx context.Context, path, mountpoint string) (int64, error) {
	d, err := openDevice(path)
	if err != nil {
		return 0, fmt.Errorf("grow: %w", err)
	}
	err = f.jobs.onDevice(ctx, d, "grow "+mountpoint, func(context.Context) error {
		return f.grow(ctx, d, path, mountpoint)
	})
	if err != nil {
		return 0, fmt.Errorf("grow the filesystem on %s: %w", path, err)
	}
	return f.Size(ctx, path, mountpoint)
}

// grow does the work of Grow. When ctx ends, what has begun goes on.
func (f *FS) grow(ctx context.Context, d *handle, path, mountpoint string) error {
	deviceSize, before, err := f.measure(path, mountpoint)
	if err != nil || before.full(deviceSize) {
		return err
	}
	if mountpoint == "" {
		err = f.growUnmounted(ctx, d, path, before)
	} else {
		err = f.growMounted(mountpoint, before, deviceSize)
	}
	if err != nil {
		return err
	}
	_, after, err := f.measure(path, mountpoint)
	if err != nil {
		return fmt.Errorf("read its size again: %w", err)
	}
	if after.size <= before.size || !after.full(deviceSize) {
		return fmt.Errorf("the tools said they succeeded, but it has %d bytes on a device of %d", after.size, deviceSize)
	}
	logging.From(ctx).Info("filesystem grown", zap.String("device", path),
		zap.Int64("from", before.size), zap.Int64("to", after.size))
	return nil
}

// growUnmounted grows a filesystem that nothing uses, when it is its turn, which
// one that is large enough has no need to wait for.
func (f *FS) growUnmounted(ctx context.Context, d *handle, path string, s superblock) error {
	if s.fsType != ext4 {
		return fmt.Errorf("%s with %d bytes %w", s.fsType, s.size, ErrNeedsMount)
	}
	giveBack, err := f.checksOf(d.size).take(ctx)
	if err != nil {
		return err
	}
	defer giveBack()
	return f.whenFree(ctx, d.number, func() error { return f.growFree(ctx, path) })
}

// growFree grows an ext filesystem that nothing uses.
func (f *FS) growFree(ctx context.Context, path string) error {
	d, err := claim(path)
	if err != nil {
		return err
	}
	readOnly := d.readOnly
	d.release()
	if readOnly {
		return fmt.Errorf("device is %w", ErrReadOnly)
	}
	// resize2fs insists on a check of all, however clean the filesystem is.
	if err := f.runE2fsck(ctx, path, "-f", "-p"); err != nil {
		return err
	}
	return f.resize("resize2fs", path)
}

// growMounted grows a filesystem through its mount.
func (f *FS) growMounted(mountpoint string, s superblock, deviceSize int64) error {
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
	switch s.fsType {
	case xfs:
		return growXFSAt(m, deviceSize)
	case btrfs:
		return f.resize("btrfs", "filesystem", "resize", strconv.FormatUint(s.deviceID, 10)+":max", m.Target)
	}
	if !CanGrowOnline(s.fsType) {
		return fmt.Errorf("ext needs CAP_SYS_RESOURCE to grow: %w", ErrOnlineGrowth)
	}
	blocks := deviceSize / s.block
	if s.narrow && blocks > math.MaxUint32 {
		// resize2fs refuses that; not every kernel does.
		return fmt.Errorf("ext without the feature 64bit can't have %d blocks: %w", blocks, ErrOnlineGrowth)
	}
	return growExtAt(m, blocks)
}

// growExtAt asks the kernel itself, which is all that resize2fs does for a mounted
// filesystem; but resize2fs takes the first mount in the table, which may be
// read-only, and costs more than the growth.
func growExtAt(m MountPoint, blocks int64) error {
	root, err := openMount(m.Target, m.Number)
	if err != nil {
		return err
	}
	err = errors.Join(growExt(root, blocks), root.Close())
	for _, refused := range []error{unix.EPERM, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOTTY} {
		// The capability is there, but something else forbids it, such as a
		// feature of the filesystem that only resize2fs knows how to grow, or a
		// kernel whose driver for ext2 can't.
		if errors.Is(err, refused) {
			return fmt.Errorf("%w: %w", ErrOnlineGrowth, err)
		}
	}
	return err
}

// growXFSAt asks the kernel itself, which is all that xfs_growfs does.
func growXFSAt(m MountPoint, deviceSize int64) error {
	root, err := openMount(m.Target, m.Number)
	if err != nil {
		return err
	}
	return errors.Join(growXFS(root, deviceSize), root.Close())
}

// resize runs a tool that grows a filesystem.
func (f *FS) resize(name string, args ...string) error {
	output, status, err := f.writer(name, args...)
	if err != nil {
		return err
	}
	if status == 0 {
		return nil
	}
	return failed(name, status, output)
}
