package filesystem

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// device is an open block device. While it is open, its number can't be given
// to another disk, even when this one is unplugged.
type device struct {
	*os.File
	number   uint64 // dev_t
	size     int64  // bytes, above 0
	readOnly bool
}

// openDevice opens a block device for reading.
func openDevice(path string) (*device, error) {
	return open(path, 0)
}

// claim opens a block device that nothing else uses: no mount in any mount
// namespace, no swap, no device built upon it, no tool that formats or checks.
func claim(path string) (*device, error) {
	d, err := open(path, unix.O_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s is mounted, held or being worked on: %w", path, ErrBusy)
	}
	return d, err
}

func open(path string, flags int) (*device, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	d := &device{File: f}
	if err := d.inspect(); err != nil {
		return nil, errors.Join(fmt.Errorf("device %s: %w", path, err), f.Close())
	}
	return d, nil
}

// inspect fills in what the kernel knows about the open device.
func (d *device) inspect() error {
	var st unix.Stat_t
	fd := int(d.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return errors.New("not a block device")
	}
	d.number = st.Rdev
	var err error
	if d.size, err = d.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("capacity: %w", err)
	}
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

// close closes the device; that can't lose anything, since it was only read.
func (d *device) close() {
	_ = d.Close()
}

// numberString writes a device number as major:minor.
func numberString(number uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))
}
