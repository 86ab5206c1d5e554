package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
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
	err = s.stageAlone(ctx, req.GetVolumeId(), staging, u)
	if !saysNothingIsLeft(err) {
		return err
	}
	looking, cancel := tidying(ctx)
	defer cancel()
	if s.isStaged(looking, req.GetVolumeId(), staging) {
		// Or nobody would unstage it before the disk is detached.
		return fmt.Errorf("%w: the volume is staged, but not as it should be: %w", errNotYet, err)
	}
	return err
}

// saysNothingIsLeft tells whether the kubelet takes an error for proof that
// nothing is staged, see code. That a volume is staged otherwise is no such error:
// its code is the specification's, and says that something is there.
func saysNothingIsLeft(err error) bool {
	switch code(err) {
	case codes.OK, codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Aborted, codes.AlreadyExists:
		return false
	}
	return err != nil
}

// isStaged tells whether something of a stage is there that has to be taken away
// again: the volume's mount at staging, or the mapping of an encrypted one.
func (s *Server) isStaged(ctx context.Context, volumeID, staging string) bool {
	if _, open, err := s.mapping(volumeID); err == nil && open {
		return true
	}
	path, err := resolve(staging)
	if err != nil {
		return false
	}
	at, err := s.inspect(path)
	if err != nil || !at.mounted {
		return false
	}
	disks, err := s.disksOf(ctx, volumeID)
	return err != nil || slices.ContainsFunc(disks, at.holds)
}

// stageAlone is stage without the checks of the request, for the only call that
// works on the volume.
func (s *Server) stageAlone(ctx context.Context, volumeID, staging string, u use) error {
	disk, err := s.awaitDisk(ctx, volumeID)
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
	if u.beneath == nil { // a mapping has been opened as it is to be used
		if err := setReadOnly(disk, u.readOnly); err != nil {
			return err
		}
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
		return fmt.Errorf("%w: %v, but %s is asked for", errPublished, at, u.fsType)
	}
	if at.mount.GivenUp {
		return fmt.Errorf("%w: %v", filesystem.ErrGivenUp, at)
	}
	if at.mount.Writable() == u.readOnly {
		return fmt.Errorf("%w: %v with read-only %t, but %t is asked for", errPublished, at, !u.readOnly, u.readOnly)
	}
	// What it has besides, mount(8) may have derived from what was asked for.
	if difference := u.difference(at.mount, at.mount); difference != "" {
		return fmt.Errorf("%w: %v with other options than asked for: %s", errPublished, at, difference)
	}
	if u.readOnly || !filesystem.CanGrowOnline(at.mount.FSType) {
		return nil
	}
	_, err := s.cfg.FS.Grow(ctx, disk.Path, at.path)
	if errors.Is(err, filesystem.ErrOnlineGrowth) {
		return nil // it may be used already, and grows when it is staged next
	}
	return err
}

// mountStaging mounts the disk and grows its filesystem, or mounts it again after
// it has been grown unmounted, where the kernel refuses to grow this one in use.
func (s *Server) mountStaging(ctx context.Context, disk blockdev.Disk, staging, fsType string, u use) error {
	err := s.mountGrown(ctx, disk, staging, fsType, u)
	if !errors.Is(err, filesystem.ErrOnlineGrowth) {
		return err
	}
	logging.From(ctx).Info("growing a filesystem unmounted, which the kernel does not grow in use",
		zap.String("volume_id", disk.VolumeID), zap.Error(err))
	if err := s.growUnmounted(ctx, disk); err != nil {
		return err
	}
	return s.mountGrown(ctx, disk, staging, fsType, u)
}

// mountGrown mounts the disk, proves that it is what got mounted, and grows what
// can grow then. A filesystem that can't be grown is unmounted again: a workload
// must not get less than was promised.
func (s *Server) mountGrown(ctx context.Context, disk blockdev.Disk, staging, fsType string, u use) error {
	if err := disk.Verify(); err != nil {
		return err
	}
	if err := s.cfg.FS.Mount(ctx, disk.Path, staging, fsType, u.stageOptions()); err != nil {
		return err
	}
	s.step("mounted")
	if err := s.proveStaging(disk, staging); err != nil {
		return s.unmountAgain(ctx, staging, err)
	}
	if u.readOnly || !filesystem.CanGrowOnline(fsType) {
		return nil
	}
	if _, err := s.cfg.FS.Grow(ctx, disk.Path, staging); err != nil {
		return s.unmountAgain(ctx, staging, err)
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
