package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// NodeStageVolume finds the disk of a volume, makes a filesystem on it if it is
// blank, checks and grows the filesystem, and mounts it at the staging path. A
// volume for block access is only found and proven; nothing is made.
func (s *Server) NodeStageVolume(ctx context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if err := s.stage(ctx, req); err != nil {
		return nil, failure("stage", req.GetVolumeId(), err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (s *Server) stage(ctx context.Context, req *csi.NodeStageVolumeRequest) error {
	if err := checkVolumeID(req.GetVolumeId()); err != nil {
		return err
	}
	staging, err := checkPath("staging_target_path", req.GetStagingTargetPath())
	if err != nil {
		return err
	}
	u, err := checkCapability(req.GetVolumeCapability())
	if err != nil {
		return err
	}
	u.context = req.GetVolumeContext()
	u.readOnly = u.readOnly || publishedReadOnly(req.GetPublishContext())
	if u, err = u.withEncryption(req.GetSecrets()); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, req.GetVolumeId(), "")
	if err != nil {
		return err
	}
	defer unlock()
	disk, err := s.awaitDisk(ctx, req.GetVolumeId())
	if err != nil {
		return err
	}
	// What it was found by, and its size, may be older than it is.
	if disk, err = blockdev.Refresh(ctx, disk); err != nil {
		return err
	}
	s.step("found")
	switch {
	case u.encrypted:
		return s.stageEncrypted(ctx, disk, staging, u)
	case u.block:
		if err := s.checkFree(disk); err != nil {
			return err
		}
		return setReadOnly(disk, u.readOnly)
	}
	return s.stageFilesystem(ctx, disk, staging, u)
}

// stageFilesystem mounts the disk at staging, or finds it mounted there.
func (s *Server) stageFilesystem(ctx context.Context, disk blockdev.Disk, staging string, u use) error {
	at, err := s.inspectDir(staging)
	if err != nil {
		return fmt.Errorf("staging path: %w", err)
	}
	staging = at.path
	if at.mounted {
		done, err := s.staged(ctx, disk, at, u)
		if done || err != nil {
			return err
		}
	}
	pinned, err := disk.Pin()
	if err != nil {
		return err
	}
	defer func() { _ = pinned.Close() }() // it was only read
	if err := s.checkUnused(ctx, disk); err != nil {
		return err
	}
	fsType, err := s.prepare(ctx, disk, u)
	if err != nil {
		return err
	}
	return s.mountStaging(ctx, disk, staging, fsType, u)
}

// staged handles a staging path at which something is mounted. It reports true
// when that is what was asked for. It unmounts what has lost its disk, since no
// data can be reached by it any more.
func (s *Server) staged(ctx context.Context, disk blockdev.Disk, at place, u use) (done bool, err error) {
	if at.holds(disk) {
		live, err := blockdev.Claimed(disk.Path)
		if err != nil {
			return false, err
		}
		if live {
			return true, s.checkStaged(ctx, disk, at, u)
		}
	} else if !at.gone() {
		return false, fmt.Errorf("%w: %v, which is not the volume's disk %s (%s)", errRefused, at, disk.Path, formatNumber(disk.Number))
	}
	logging.From(ctx).Warn("unmounting a staging path whose disk is gone",
		zap.String("volume_id", disk.VolumeID), zap.Stringer("found", at))
	return false, s.unmount(ctx, at.path)
}

// checkStaged compares a staging mount of the right disk with what is asked for
// and finishes the growth that an earlier call may not have come to.
func (s *Server) checkStaged(ctx context.Context, disk blockdev.Disk, at place, u use) error {
	if u.fsType != "" && at.mount.FSType != u.fsType {
		return fmt.Errorf("%w: %v, but %s is asked for", errRefused, at, u.fsType)
	}
	if at.mount.ReadOnly != u.readOnly {
		return fmt.Errorf("%w: %v with read-only %t, but %t is asked for", errRefused, at, at.mount.ReadOnly, u.readOnly)
	}
	if u.readOnly || !growsMounted(at.mount.FSType) {
		return nil
	}
	_, err := s.cfg.FS.Grow(ctx, disk.Path, at.path)
	return err
}

// mountStaging mounts the disk, proves that it is what got mounted, and grows
// those filesystems that grow only then. One that can't be grown is unmounted
// again: a workload must not get less than was promised.
func (s *Server) mountStaging(ctx context.Context, disk blockdev.Disk, staging, fsType string, u use) error {
	if err := disk.Verify(); err != nil {
		return err
	}
	if err := s.cfg.FS.Mount(ctx, disk.Path, staging, fsType, u.stageOptions()); err != nil {
		return err
	}
	s.step("mounted")
	if err := s.proveStaging(disk, staging); err != nil {
		return err
	}
	if u.readOnly || !growsMounted(fsType) {
		return nil
	}
	if _, err := s.cfg.FS.Grow(ctx, disk.Path, staging); err != nil {
		return errors.Join(err, s.unmount(context.WithoutCancel(ctx), staging))
	}
	s.step("grown")
	return nil
}

// proveStaging returns nil if staging is a mount of that very disk.
func (s *Server) proveStaging(disk blockdev.Disk, staging string) error {
	at, err := s.inspect(staging)
	if err != nil {
		return err
	}
	if !at.holds(disk) {
		return fmt.Errorf("%w: staging path: %v, which is not the volume's disk %s (%s)", errRefused, at, disk.Path, formatNumber(disk.Number))
	}
	live, err := blockdev.Claimed(disk.Path)
	if err != nil {
		return err
	}
	if !live {
		return fmt.Errorf("%w: staging path: %v, but of a disk that was there before %s", errRefused, at, disk.Path)
	}
	return nil
}
