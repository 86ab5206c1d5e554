package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// wipeTimeout is how long the filesystems of killed nodes may take to let go of
// their devices.
const wipeTimeout = 60 * time.Second

// Down takes the cluster down, whatever is left of it, and leaves the programs,
// the images and the logs of failures only.
func Down(ctx context.Context) error {
	p, err := NewPaths()
	if err != nil {
		return err
	}
	return p.locked(ctx, func() error {
		if err := p.owns(ctx); err != nil {
			return err
		}
		return p.down(ctx)
	})
}

func (p Paths) down(ctx context.Context) error {
	g, err := p.groups()
	if err != nil {
		return err
	}
	if err := g.kill(ctx); err != nil {
		return err
	}
	if err := p.unmountAll(); err != nil {
		return err
	}
	// A namespace unmounts what it had after its last process has gone.
	ctx, cancel := context.WithTimeout(ctx, wipeTimeout)
	defer cancel()
	err = poll(ctx, 50*time.Millisecond, func(context.Context) error {
		return errors.Join(p.detachStacked(""), p.wipeCloud())
	})
	if err != nil {
		return err
	}
	if err := os.RemoveAll(p.run()); err != nil {
		return err
	}
	if err := removeLinks(ctx); err != nil {
		return err
	}
	left, err := p.Leftovers(ctx)
	if err != nil || len(left) == 0 {
		return err
	}
	return fmt.Errorf("the cluster is down, but this is left:\n  %s", strings.Join(left, "\n  "))
}

// unmountAll unmounts what somebody has mounted in the runtime state: nothing,
// unless by hand. Removing the state would remove what is mounted there.
func (p Paths) unmountAll() error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(p.run()))
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
	}
	return nil
}
