package node

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// publishBlock binds the disk's device node onto the target, once. The mount of
// a device node can be read-only without the device being so: it is where a
// volume was published to this server, or staged, for reading; see setReadOnly.
func (s *Server) publishBlock(ctx context.Context, disk blockdev.Disk, p publication) error {
	if err := s.checkFree(disk); err != nil {
		return err
	}
	at, err := s.inspectFile(p.target)
	if err != nil {
		return fmt.Errorf("target path: %w", err)
	}
	s.step("target made")
	if at.mounted {
		done, err := s.publishedBlock(ctx, disk, at, p)
		if done || err != nil {
			return err
		}
	}
	if p.single {
		targets, err := deviceMounts(disk)
		if err != nil {
			return err
		}
		if err := s.checkSingle(targets, at.path); err != nil {
			return dropTarget(at.path, err)
		}
	}
	if err := disk.Verify(); err != nil {
		return err
	}
	if err := s.cfg.FS.Bind(ctx, disk.Path, at.path, p.readOnly, nil); err != nil {
		return dropTarget(at.path, err)
	}
	s.step("bound")
	if err := s.proveBlock(disk, at.path, p); err != nil {
		return s.takeBack(ctx, at.path, err)
	}
	return nil
}

// publishedBlock handles a target at which something is mounted, as published
// does for filesystems.
func (s *Server) publishedBlock(ctx context.Context, disk blockdev.Disk, at place, p publication) (done bool, err error) {
	switch {
	case at.device && at.number == disk.Number:
		return true, s.proveBlock(disk, at.path, p)
	case at.device && at.gone():
		logging.From(ctx).Warn("unmounting a target whose disk is gone",
			zap.String("volume_id", disk.VolumeID), zap.Stringer("found", at))
		return false, s.unmount(ctx, at.path)
	}
	return false, fmt.Errorf("%w: %v, which is not the volume's disk %s (%s)", errPublished, at, disk.Path, formatNumber(disk.Number))
}

// proveBlock returns nil if target is the disk as asked for.
func (s *Server) proveBlock(disk blockdev.Disk, target string, p publication) error {
	at, err := s.inspect(target)
	if err != nil {
		return err
	}
	if !at.mounted || !at.device || at.number != disk.Number {
		return fmt.Errorf("%w: %v, which is not the volume's disk %s (%s)", errPublished, at, disk.Path, formatNumber(disk.Number))
	}
	if at.mount.ReadOnly != p.readOnly {
		return fmt.Errorf("%w: %v with read-only %t, but %t is asked for", errPublished, at, at.mount.ReadOnly, p.readOnly)
	}
	return nil
}
