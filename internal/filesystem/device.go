package filesystem

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// handle is an open block device. While it is open, its number can't be given
// to another disk, even when this one is unplugged.
type handle struct {
	*os.File
	number   uint64 // dev_t
	size     int64  // bytes, above 0
	readOnly bool
}

// busyWait is how long something else may hold a device, or its mount, before a
// call gives up. A child that was forked while a claim was open, or a tool that
// has a look, is gone in milliseconds; to send the caller away for that costs the
// seconds until it comes back.
const busyWait = 2 * time.Second

// openDevice opens a block device for reading.
func openDevice(path string) (*handle, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	return inspected(f)
}

// claim opens a block device that nothing else uses: no mount in any mount
// namespace, no swap, no device built upon it, no tool that formats or checks.
func claim(path string) (*handle, error) {
	c, err := blockdev.ClaimDevice(path)
	if errors.Is(err, blockdev.ErrClaimed) {
		return nil, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	return inspected(c.File)
}

// inspected returns the handle of an open device.
func inspected(f *os.File) (*handle, error) {
	d := &handle{File: f}
	if err := d.inspect(); err != nil {
		return nil, errors.Join(fmt.Errorf("device %s: %w", f.Name(), err), f.Close())
	}
	return d, nil
}

// inspect fills in what the kernel knows about the open device.
func (d *handle) inspect() error {
	var st unix.Stat_t
	fd := int(d.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return errors.New("not a block device")
	}
	d.number = st.Rdev
	// lseek(2) would wait for a read of the device that hangs.
	size := make([]byte, 8)
	if err := ioctl(d.File, unix.BLKGETSIZE64, size); err != nil {
		return fmt.Errorf("capacity: %w", err)
	}
	d.size = int64(binary.NativeEndian.Uint64(size)) // #nosec G115 -- the kernel counts bytes as it does
	if d.size == 0 {
		return errors.New("has no capacity")
	}
	readOnly, err := unix.IoctlGetInt(fd, unix.BLKROGET)
	if err != nil {
		return fmt.Errorf("read-only flag: %w", err)
	}
	d.readOnly = readOnly != 0
	return nil
}

// release gives a claim back, see blockdev.Claim. One that was closed before has been
// given back.
func (d *handle) release() { _ = (&blockdev.Claim{File: d.File}).Release() }

// whenFree does work that needs a device for itself, and does it again while
// something else holds the device for a moment, until ctx ends. A mount is not
// for a moment.
func (f *FS) whenFree(ctx context.Context, number uint64, work func() error) error {
	limit := time.NewTimer(busyWait)
	defer limit.Stop()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := work()
		if !errors.Is(err, ErrBusy) {
			return err
		}
		if mounts, merr := f.MountsOf(number); merr != nil || len(mounts) > 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-limit.C:
			return err
		case <-time.After(pause):
		}
	}
}

// close closes the device; that can't lose anything, since it was only read.
func (d *handle) close() {
	_ = d.Close()
}

// numberString writes a device number as major:minor.
func numberString(number uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))
}
