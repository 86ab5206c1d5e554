package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// diskWait is the longest that a call waits for a disk to appear. A guest sees
// a new disk about a second after Nova says it is attached; the reference waits
// 28 s.
const diskWait = 60 * time.Second

// awaitDisk finds the disk of a volume, waiting for it to appear. It gives up a
// little before the call's deadline, so that the caller still hears why.
func (s *Server) awaitDisk(ctx context.Context, volumeID string) (blockdev.Disk, error) {
	wait := diskWait
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		wait = min(wait, left-min(left/10, 2*time.Second))
	}
	waitCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	disk, err := s.cfg.Finder.Wait(waitCtx, volumeID)
	switch {
	case err == nil:
		return disk, nil
	case ctx.Err() != nil:
		return blockdev.Disk{}, fmt.Errorf("wait for its disk: %w", err)
	case errors.Is(err, blockdev.ErrNotFound), waitCtx.Err() != nil && !errors.Is(err, blockdev.ErrUnsafe):
		return blockdev.Disk{}, fmt.Errorf("%w: its disk has not appeared within %v: %w", errNotYet, wait.Round(time.Second/10), err)
	}
	return blockdev.Disk{}, err
}

// findDisk finds the disk of a volume that has to be there. There is no waiting:
// whoever asks has seen it before.
func (s *Server) findDisk(ctx context.Context, volumeID string) (blockdev.Disk, error) {
	disk, err := s.cfg.Finder.Find(ctx, volumeID)
	if errors.Is(err, blockdev.ErrNotFound) {
		return blockdev.Disk{}, fmt.Errorf("%w: its disk is not here: %w", errNotYet, err)
	}
	return disk, err
}

// checkFree refuses a disk that something else uses: a partition, a device
// mapper, a mount anywhere. One's own mount is looked for before. Devices that the
// node's udev has built upon it are no use as long as nobody has them open.
func (s *Server) checkFree(d blockdev.Disk) error {
	holders, err := blockdev.Holders(d)
	if err != nil {
		return err
	}
	if users := blockdev.InUse(holders); len(users) > 0 {
		return fmt.Errorf("%w: %s is used by %v", errRefused, d.Path, users)
	}
	mounts, err := s.cfg.FS.MountsOf(d.Number)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%w: %s is mounted at %v", errRefused, d.Path, targetsOf(mounts))
	}
	return nil
}

// checkUnused refuses a disk that anything at all uses, before it is written to.
// A mkfs or fsck that an earlier call has begun still runs when that call has
// given up, or its process was killed: that is waited for.
func (s *Server) checkUnused(ctx context.Context, d blockdev.Disk) error {
	if err := s.checkFree(d); err != nil {
		return err
	}
	holders, err := blockdev.Holders(d)
	if err != nil {
		return err
	}
	if len(holders) > 0 {
		return fmt.Errorf("%w: upon %s is built %v: take it away (vgchange -an, mdadm --stop, multipath -f), and keep the node from building it again",
			errRefused, d.Path, holders)
	}
	nodes, err := deviceMounts(d)
	if err != nil {
		return err
	}
	if len(nodes) > 0 {
		return fmt.Errorf("%w: %s is published as a block device at %v", errRefused, d.Path, nodes)
	}
	if err := s.awaitUnclaimed(ctx, d); err != nil {
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	return nil
}

// unclaimedWait is how long the kernel may take to let go of a disk after its
// last mount in this namespace went: a container that is just ending may hold
// a copy of the mount.
const unclaimedWait = 10 * time.Second

// awaitUnclaimed waits until neither a filesystem nor another device nor a tool
// that writes to it holds the disk. The kernel tells nobody of that moment, so
// it is asked now and then.
func (s *Server) awaitUnclaimed(ctx context.Context, d blockdev.Disk) error {
	ctx, cancel := context.WithTimeout(ctx, unclaimedWait)
	defer cancel()
	for seen, pause := false, time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		held, err := s.cfg.Finder.Claimed(ctx, d)
		if seen = seen || held; !seen || ctx.Err() == nil && !held {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the kernel holds %s for a mount in another mount namespace, or a tool such as mkfs works on it",
				errInUse, d.Path)
		case <-time.After(pause):
		}
	}
}
