package blockdev

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Claimed tells whether something holds a block device for itself: a mount in
// whatever mount namespace, swap, a device built upon it, a tool that formats
// or checks it. The mount of a disk that was pulled doesn't hold the one that
// came in its place and got its number.
//
// It leaves nothing behind by which the next one to ask could be misled: a child
// that is forked while a claim is open has a copy of it until it has begun its
// program, so no child is forked meanwhile.
func Claimed(path string) (bool, error) {
	// Opened by nobody else, the device could be slow to open, or to close with
	// something left to write, and until then no program could be started.
	pin, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", path, err)
	}
	held, err := claimed(path)
	if cerr := unix.Close(pin); err == nil && cerr != nil {
		err = fmt.Errorf("close %s: %w", path, cerr)
	}
	return held, err
}

// claimed tries to claim a device that is open.
func claimed(path string) (bool, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("open %s: %w", path, err)
	}
	if err := unix.Close(fd); err != nil {
		return false, fmt.Errorf("close %s: %w", path, err)
	}
	return false, nil
}
