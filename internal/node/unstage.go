package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// NodeUnstageVolume unmounts the staging path and flushes the disk, so that it
// can be detached. It refuses while the volume is used elsewhere on the node,
// and succeeds when there is nothing left to do.
func (s *Server) NodeUnstageVolume(ctx context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if err := s.unstage(ctx, req); err != nil {
		return nil, s.failure("unstage", req.GetVolumeId(), err)
	}
	s.seen.abnormal.note(req.GetVolumeId(), normal)
	return &csi.NodeUnstageVolumeResponse{}, nil
}

func (s *Server) unstage(ctx context.Context, req *csi.NodeUnstageVolumeRequest) error {
	staging, err := checkVolume(req.GetVolumeId(), "staging_target_path", req.GetStagingTargetPath())
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, req.GetVolumeId(), "")
	if err != nil {
		return err
	}
	defer unlock()
	here, err := s.present(ctx, req.GetVolumeId())
	if err != nil {
		return err
	}
	if err := s.unmountStaging(ctx, here.all(), staging); err != nil {
		return err
	}
	if here.mapping != nil {
		if err := s.closeMapping(ctx, *here.mapping); err != nil {
			return err
		}
	}
	for _, disk := range here.disks {
		if err := s.release(ctx, disk); err != nil {
			return err
		}
	}
	return nil
}

// unmountStaging unmounts what is mounted at staging, unless that is another
// volume's or the same disk is also mounted elsewhere. It goes by the number of what
// is mounted: a mount whose disk isn't there any more is what was left of one when it
// was pulled, and nothing can be saved by keeping it. A whole disk that is there, but
// isn't known to be the volume's, may still be written to by a workload.
func (s *Server) unmountStaging(ctx context.Context, disks []blockdev.Disk, staging string) error {
	at, err := s.inspect(staging)
	if err != nil || !at.mounted {
		return err
	}
	if s.foreign(ctx, at, disks) {
		return wrongDisk(disks[0], errOtherwise, at)
	}
	if slices.ContainsFunc(disks, at.holds) || at.mount.Root == "/" && !at.gone() {
		usage, err := s.useOf(blockdev.Disk{Number: at.number, Path: at.mount.Source}, at.path)
		if err != nil {
			return err
		}
		if len(usage.mounts) > 0 {
			return fmt.Errorf("%w: %s is mounted at %v too", errInUse, at.mount.Source, usage.mounts)
		}
	}
	if err := s.flush(ctx, at.path); err != nil {
		if ctx.Err() != nil {
			return err
		}
		// The disk refuses its last data, and will refuse it as long as it
		// is mounted. Holding on to it would only keep the node from
		// ending the workload.
		logging.From(ctx).Error("unstage: data could not be written back", zap.String("path", at.path), zap.Error(err))
	}
	return s.cfg.FS.Unmount(ctx, at.path)
}

// release proves that nothing on this node uses the disk any more, and flushes
// it. A volume for block access has no more than that to unstage.
func (s *Server) release(ctx context.Context, disk blockdev.Disk) error {
	usage, err := s.useOf(disk, "")
	if err != nil {
		return err
	}
	if targets := usage.targets(); len(targets) > 0 {
		return fmt.Errorf("%w: %s is mounted at %v", errInUse, disk.Path, targets)
	}
	holders, err := blockdev.Holders(disk)
	if err != nil {
		return err
	}
	if users := blockdev.InUse(holders); len(users) > 0 {
		return fmt.Errorf("%w: %s is used by %v", errInUse, disk.Path, users)
	}
	if len(holders) > 0 {
		// The workload's own LVM, MD or multipath, which the node's udev has activated.
		logging.From(ctx).Warn("unstage: devices that nobody has open are built upon the disk, and are taken away: "+
			"keep the node from building them",
			zap.String("device", disk.Path), zap.Stringers("holders", holders))
	}
	left := blockdev.RemoveIdle(holders)
	if users := blockdev.InUse(left); len(users) > 0 {
		return fmt.Errorf("%w: %s is used by %v", errInUse, disk.Path, users)
	}
	if len(left) > 0 {
		// They hold no data, but the disk, so that nothing else can.
		logging.From(ctx).Warn("unstage: devices that nobody has open stay when their disk is detached: stop them (mdadm --stop)",
			zap.String("device", disk.Path), zap.Stringers("holders", left))
	} else if err := s.awaitUnclaimed(ctx, disk); err != nil {
		if hasGone(err) {
			return nil
		}
		return err
	}
	if err := s.flush(ctx, disk.Path); err != nil {
		if ctx.Err() != nil {
			return err
		}
		// A disk that is dead refuses that for good, as one that the cloud has
		// detached and the kernel hasn't been told of: it must not keep the
		// volume on this node.
		logging.From(ctx).Error("unstage: the disk could not be flushed",
			zap.String("device", disk.Path), zap.Error(err))
	}
	return nil
}

// hasGone tells whether a device couldn't be opened because nothing is there, or
// nothing behind its node.
func hasGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV)
}
