package node

import (
	"context"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// flush writes what the kernel still holds back to the disk: all of a mounted
// filesystem if path is a directory, the device's own cache if it is a block
// device. It returns when ctx ends; the kernel goes on. There is one at a time for
// each path, so that a disk that hangs costs one goroutine, however often the
// caller comes back.
func (s *Server) flush(ctx context.Context, path string) error {
	unlock, err := s.flushes.Lock(ctx, path, 0)
	if err != nil {
		return fmt.Errorf("flush %s: an earlier attempt has not ended: %w", path, err)
	}
	done := make(chan error, 1)
	go func() {
		defer unlock()
		done <- flushNow(path)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("flush %s: %w", path, ctx.Err())
	}
}

func flushNow(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("flush: open %s: %w", path, err)
	}
	defer func() { _ = closeEverywhere(fd) }()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("flush: stat %s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFBLK {
		err = unix.Fsync(fd)
	} else {
		err = unix.Syncfs(fd)
	}
	if err != nil {
		return fmt.Errorf("flush %s: %w", path, err)
	}
	return nil
}

// closeEverywhere closes a descriptor and waits until the children that have a
// copy of it have begun their programs: one that was forked for another call at
// this very moment would hold the mount for as long.
func closeEverywhere(fd int) error {
	err := unix.Close(fd)
	syscall.ForkLock.RLock()   // held from fork to exec by whoever forks
	syscall.ForkLock.RUnlock() //nolint:staticcheck // an empty section is the point
	return err
}
