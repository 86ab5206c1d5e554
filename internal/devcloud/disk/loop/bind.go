package loop

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The number of times a free device is asked for before giving up: another
// process can take the one the kernel proposed, every time anew.
const bindAttempts = 64

// ErrGone says that a device was unbound before it could be asked.
var ErrGone = errors.New("not bound any more")

// Bind binds a free loop device to the file at path and labels it, in one step.
// The device has no partitions and does not detach itself.
func (o Opener) Bind(path, label string, readOnly bool) (Device, error) {
	if len(label) > MaxLabel {
		return Device{}, fmt.Errorf("bind %s: label of %d bytes is longer than %d", path, len(label), MaxLabel)
	}
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	file, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return Device{}, fmt.Errorf("bind a loop device: %w", err)
	}
	defer func() { _ = file.Close() }() // the device holds its own reference
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return Device{}, fmt.Errorf("bind a loop device (is the loop module loaded?): %w", err)
	}
	defer func() { _ = control.Close() }()

	config := unix.LoopConfig{Fd: uint32(file.Fd())}
	copy(config.Info.File_name[:], label)
	if readOnly {
		config.Info.Flags = unix.LO_FLAGS_READ_ONLY
	}
	for attempt := range bindAttempts {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return Device{}, fmt.Errorf("find a free loop device: %w", err)
		}
		d, err := o.configure(number, &config)
		switch {
		case err == nil:
			return d, nil
		case errors.Is(err, unix.EBUSY), absent(err): // taken by somebody else, or removed
			time.Sleep(time.Duration(attempt) * time.Millisecond)
		default:
			return Device{}, fmt.Errorf("bind loop%d to %s: %w", number, path, err)
		}
	}
	return Device{}, fmt.Errorf("bind a loop device to %s: every free one was taken by others, %d times", path, bindAttempts)
}

func (o Opener) configure(number int, config *unix.LoopConfig) (Device, error) {
	flags := os.O_RDWR
	if config.Info.Flags&unix.LO_FLAGS_READ_ONLY != 0 {
		flags = os.O_RDONLY
	}
	f, err := o.open(number, flags)
	if err != nil {
		return Device{}, err
	}
	defer func() { _ = f.Close() }()
	if err := unix.IoctlLoopConfigure(int(f.Fd()), config); err != nil {
		return Device{}, err
	}
	// A guest that makes its disk read-only (BLKROSET) does so until the disk is
	// taken out. The kernel remembers it of a loop device beyond its unbinding.
	if flags == os.O_RDWR {
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 0); err != nil {
			return Device{}, fmt.Errorf("make it writable: %w", err)
		}
	}
	d, bound, err := read(number)
	if err == nil && !bound {
		err = errors.New("unbound by somebody else right after it was bound")
	}
	return d, err
}

// Status asks the kernel about d; ErrGone when d is not bound any more.
func (o Opener) Status(d Device) (Status, error) {
	var status Status
	err := o.with(d, func(fd int) error {
		info, err := unix.IoctlLoopGetStatus64(fd)
		if err != nil {
			return err
		}
		status = Status{
			Label:     unix.ByteSliceToString(info.File_name[:]),
			ReadOnly:  info.Flags&unix.LO_FLAGS_READ_ONLY != 0,
			AutoClear: info.Flags&unix.LO_FLAGS_AUTOCLEAR != 0,
		}
		return nil
	})
	return status, err
}

// Keep takes back that d detaches itself after its last use.
func (o Opener) Keep(d Device) error { return o.with(d, keep) }

// keep clears the autoclear flag and nothing else.
func keep(fd int) error {
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return err
	}
	if info.Flags&unix.LO_FLAGS_AUTOCLEAR == 0 {
		return nil
	}
	info.Flags &^= unix.LO_FLAGS_AUTOCLEAR
	return unix.IoctlLoopSetStatus64(fd, info)
}

// Grow makes d as large as its file is now.
func (o Opener) Grow(d Device) error {
	return o.with(d, func(fd int) error { return unix.IoctlSetInt(fd, unix.LOOP_SET_CAPACITY, 0) })
}

// Sync writes everything that was written to d into its file.
func (o Opener) Sync(d Device) error { return o.with(d, unix.Fsync) }

// with runs do on the open device; ErrGone when d is not bound any more.
func (o Opener) with(d Device, do func(fd int) error) error {
	f, err := o.openBound(d, os.O_RDONLY)
	if err != nil {
		return err
	}
	if f == nil {
		return fmt.Errorf("%s: %w", d.Name(), ErrGone)
	}
	defer func() { _ = f.Close() }()
	err = do(int(f.Fd()))
	if errors.Is(err, unix.ENXIO) {
		err = ErrGone
	}
	if err != nil {
		return fmt.Errorf("%s, bound to %s: %w", d.Name(), d.File, err)
	}
	return nil
}
