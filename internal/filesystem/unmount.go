package filesystem

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxStacked bounds how many mounts are taken off one target.
const maxStacked = 1024

// Unmount removes every mount that is exactly at target, whatever it is and
// whether it still works, and returns when what was written is on the disk. It
// returns nil when nothing is mounted there or target doesn't exist, and leaves
// target itself alone. A mount in use is ErrBusy; it is never detached lazily,
// since that would hide that the disk is still written to.
//
// When ctx ends first, the kernel goes on flushing; a later call waits for it.
func (f *FS) Unmount(ctx context.Context, target string) error {
	place, err := canonical(target)
	if err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	err = f.jobs.do(ctx, "mount "+place, "unmount", func(context.Context) error {
		return f.unmount(place)
	})
	if err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}

// unmount does the work of Unmount.
func (f *FS) unmount(place string) error {
	for range maxStacked {
		_, there, err := f.Lookup(place)
		if err != nil || !there {
			return err
		}
		if err := umount(place); err != nil {
			return err
		}
	}
	return fmt.Errorf("more than %d mounts lie upon each other", maxStacked)
}

// umount removes the topmost mount at place; nil when somebody else did.
func umount(place string) error {
	err := unix.Unmount(place, unix.UMOUNT_NOFOLLOW)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return whyNot(place, err)
	}
	return err
}

// whyNot tells apart a mount that has gone from one that can't be reached,
// because something is mounted over the directory that it is in.
func whyNot(place string, cause error) error {
	infos, err := readMounts()
	if err != nil {
		return errors.Join(cause, err)
	}
	if topmost(infos, place) == nil {
		return nil
	}
	return fmt.Errorf("%w: another mount hides it: %w", ErrBusy, cause)
}

// undo takes back a mount that isn't what it should be.
func undo(place string, cause error) error {
	err := unix.Unmount(place, unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w (and it could not be unmounted again: %w)", cause, err)
	}
	return cause
}
