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
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// NodeUnstageVolume unmounts the staging path and flushes the disk, so that it
// can be detached. It refuses while the volume is used elsewhere on the node,
// and succeeds when there is nothing left to do.
func (s *Server) NodeUnstageVolume(ctx context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if err := s.unstage(ctx, req); err != nil {
		return nil, failure("unstage", req.GetVolumeId(), err)
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

func (s *Server) unstage(ctx context.Context, req *csi.NodeUnstageVolumeRequest) error {
	if err := checkVolumeID(req.GetVolumeId()); err != nil {
		return err
	}
	staging, err := checkPath("staging_target_path", req.GetStagingTargetPath())
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, req.GetVolumeId(), "")
	if err != nil {
		return err
	}
	defer unlock()
	if staging, err = resolve(staging); err != nil {
		return err
	}
	disks, err := s.disksOf(ctx, req.GetVolumeId())
	if err != nil {
		return err
	}
	mapping, open, err := s.mapping(req.GetVolumeId())
	if err != nil {
		return err
	}
	data := disks
	if open {
		data = append([]blockdev.Disk{mapping.Disk}, disks...)
	}
	if err := s.unmountStaging(ctx, data, staging); err != nil {
		return err
	}
	s.step("unmounted")
	if open {
		if err := s.closeMapping(ctx, mapping); err != nil {
			return err
		}
	}
	for _, disk := range disks {
		if err := s.release(ctx, disk); err != nil {
			return err
		}
	}
	return nil
}

// disksOf returns the disks of a volume, whatever their state: none when it is
// detached already or has never been here, more than one when the kernel hasn't
// been told that an earlier attachment is over. To take something away, none of
// them has to be the right one; each must be unused in the end.
func (s *Server) disksOf(ctx context.Context, volumeID string) ([]blockdev.Disk, error) {
	disks, err := s.cfg.Finder.Candidates(ctx, volumeID)
	if errors.Is(err, blockdev.ErrNotFound) || errors.Is(err, blockdev.ErrVolumeID) {
		return nil, nil
	}
	return disks, err
}

// unmountStaging unmounts what is mounted at staging unless the same disk is
// also mounted elsewhere. It goes by the number of what is mounted: a mount whose
// disk isn't there any more is what was left of one when it was pulled, and nothing
// can be saved by keeping it. A whole disk that is there, but isn't known to be the
// volume's, may still be written to by a workload.
func (s *Server) unmountStaging(ctx context.Context, disks []blockdev.Disk, staging string) error {
	at, err := s.inspect(staging)
	if err != nil || !at.mounted {
		return err
	}
	if slices.ContainsFunc(disks, at.holds) || at.mount.Root == "/" && !at.gone() {
		if err := s.checkUnshared(at, staging); err != nil {
			return err
		}
	}
	if err := s.flush(ctx, staging); err != nil {
		if ctx.Err() != nil {
			return err
		}
		// The disk refuses its last data, and will refuse it as long as it
		// is mounted. Holding on to it would only keep the node from
		// ending the workload.
		logging.From(ctx).Error("unstage: data could not be written back", zap.Error(err))
	}
	return s.unmount(ctx, staging)
}

// checkUnshared refuses what is mounted anywhere else than at staging too.
func (s *Server) checkUnshared(at place, staging string) error {
	mounts, err := s.cfg.FS.MountsOf(at.number)
	if err != nil {
		return err
	}
	mounts = slices.DeleteFunc(mounts, func(m filesystem.MountPoint) bool { return s.copyOf(m.Target, staging) })
	if len(mounts) > 0 {
		return fmt.Errorf("%w: %s is mounted at %v too", errInUse, at.mount.Source, targetsOf(mounts))
	}
	return nil
}

// release proves that nothing on this node uses the disk any more, and flushes
// it. A volume for block access has no more than that to unstage.
func (s *Server) release(ctx context.Context, disk blockdev.Disk) error {
	mounts, err := s.cfg.FS.MountsOf(disk.Number)
	if err != nil {
		return err
	}
	nodes, err := deviceMounts(disk)
	if err != nil {
		return err
	}
	if targets := append(targetsOf(mounts), nodes...); len(targets) > 0 {
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
			zap.String("volume_id", disk.VolumeID), zap.Stringers("devices", holders))
	}
	left := blockdev.RemoveIdle(holders)
	if users := blockdev.InUse(left); len(users) > 0 {
		return fmt.Errorf("%w: %s is used by %v", errInUse, disk.Path, users)
	}
	if len(left) > 0 {
		// They hold no data, but the disk, so that nothing else can.
		logging.From(ctx).Warn("unstage: devices that nobody has open stay when their disk is detached: stop them (mdadm --stop)",
			zap.String("volume_id", disk.VolumeID), zap.Stringers("devices", left))
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
			zap.String("volume_id", disk.VolumeID), zap.Error(err))
	}
	return nil
}

// hasGone tells whether a device couldn't be opened because nothing is there, or
// nothing behind its node.
func hasGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV)
}

// targetsOf returns where the mounts are.
func targetsOf(mounts []filesystem.MountPoint) []string {
	targets := make([]string, 0, len(mounts))
	for _, m := range mounts {
		targets = append(targets, m.Target)
	}
	return targets
}
