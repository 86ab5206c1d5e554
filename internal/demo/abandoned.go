package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// abandoned returns the directories below the bases whose demo is dead: killed
// with SIGKILL, it could not tidy up. Each comes locked.
func abandoned(bases ...string) []*home {
	var dirs []string
	for _, base := range bases {
		found, err := filepath.Glob(filepath.Join(base, homePattern))
		if err == nil {
			dirs = append(dirs, found...)
		}
	}
	var dead []*home
	for _, dir := range dirs {
		resolved, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue
		}
		h := &home{dir: resolved}
		f, err := os.OpenFile(h.lockPath(), os.O_RDWR, 0)
		if err != nil {
			continue // just being made, or kept for its logs
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			_ = f.Close()
			continue // alive
		}
		h.lock = f
		dead = append(dead, h)
	}
	return dead
}

// unmountAll unmounts everything below the directory, the youngest first, and
// again while something is busy, until ctx ends.
func (h *home) unmountAll(ctx context.Context) error {
	for {
		mounts, err := mountsBelow(h.dir)
		if err != nil || len(mounts) == 0 {
			return err
		}
		var failed error
		for _, target := range mounts {
			if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
				failed = errors.Join(failed, fmt.Errorf("unmount %s: %w", target, err))
			}
		}
		if failed == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return failed
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// detachLoops detaches the loop devices whose backing file lies below the
// directory: the last resort where the development cloud is dead.
func (h *home) detachLoops() error {
	inv, err := takeInventory("/sys/block")
	if err != nil {
		return err
	}
	var failed error
	for dev, backing := range inv.loops {
		if !within(h.dir, backing) {
			continue
		}
		f, err := os.OpenFile(dev, os.O_RDWR, 0)
		if err == nil {
			err = errors.Join(unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0), f.Close())
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("detach %s: %w", dev, err))
		}
	}
	return failed
}
