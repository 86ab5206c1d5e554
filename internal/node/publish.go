package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// ephemeralKey is what the kubelet sets in the volume context of an inline
// volume.
const ephemeralKey = "csi.storage.k8s.io/ephemeral"

// publication is a checked NodePublishVolume request.
type publication struct {
	volumeID, staging, target string
	use
}

// NodePublishVolume makes a staged volume appear at the target path: its
// filesystem by a bind mount of the staging path, which is proven to be a mount
// of the volume's disk, or its block device by a bind mount of the device node.
func (s *Server) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := s.publish(ctx, req); err != nil {
		return nil, failure("publish", req.GetVolumeId(), err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (s *Server) publish(ctx context.Context, req *csi.NodePublishVolumeRequest) error {
	p, err := checkPublish(req)
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, p.volumeID, p.target)
	if err != nil {
		return err
	}
	defer unlock()
	disk, err := s.findDisk(ctx, p.volumeID)
	if err != nil {
		return err
	}
	if p.block {
		// Its place may have been given to another disk since it was staged.
		if disk, err = blockdev.Refresh(ctx, disk); err != nil {
			return err
		}
	}
	if p.encrypted {
		if disk, err = s.openDisk(disk); err != nil {
			return err
		}
	}
	if p.block {
		return s.publishBlock(ctx, disk, p)
	}
	return s.publishFilesystem(ctx, disk, p)
}

func checkPublish(req *csi.NodePublishVolumeRequest) (publication, error) {
	p := publication{volumeID: req.GetVolumeId()}
	if err := checkVolumeID(p.volumeID); err != nil {
		return p, err
	}
	var err error
	if p.target, err = checkPath("target_path", req.GetTargetPath()); err != nil {
		return p, err
	}
	if p.use, err = checkCapability(req.GetVolumeCapability()); err != nil {
		return p, err
	}
	p.readOnly = p.readOnly || req.GetReadonly() || publishedReadOnly(req.GetPublishContext())
	if p.encrypted, err = wantsEncryption(req.GetVolumeContext()); err != nil {
		return p, err
	}
	if req.GetVolumeContext()[ephemeralKey] == "true" {
		return p, fmt.Errorf("%w: inline ephemeral volumes are not supported: use a generic ephemeral volume", errInvalid)
	}
	if req.GetStagingTargetPath() == "" { // the code is the specification's
		return p, fmt.Errorf("%w: staging_target_path is missing: the volume has to be staged first", errRefused)
	}
	if p.staging, err = checkPath("staging_target_path", req.GetStagingTargetPath()); err != nil {
		return p, err
	}
	if p.target == p.staging {
		return p, fmt.Errorf("%w: target_path and staging_target_path are the same", errInvalid)
	}
	return p, nil
}

func (s *Server) publishFilesystem(ctx context.Context, disk blockdev.Disk, p publication) error {
	staging, err := s.checkStaging(disk, p)
	if err != nil {
		return err
	}
	at, err := s.inspectDir(p.target)
	if err != nil {
		return fmt.Errorf("target path: %w", err)
	}
	s.step("target made")
	if at.mounted {
		done, err := s.published(ctx, disk, at, staging.mount, p)
		if done || err != nil {
			return err
		}
	}
	if p.single {
		mounts, err := s.cfg.FS.MountsOf(disk.Number)
		if err != nil {
			return err
		}
		if err := s.checkSingle(targetsOf(mounts), staging.path, at.path); err != nil {
			return dropTarget(at.path, err)
		}
	}
	if err := s.cfg.FS.Bind(ctx, staging.path, at.path, p.readOnly, p.bindOptions()); err != nil {
		return dropTarget(at.path, err)
	}
	s.step("bound")
	if err := s.provePublished(disk, at.path, staging.mount, p); err != nil {
		return s.takeBack(ctx, at.path, err)
	}
	return nil
}

// checkStaging proves that the staging path is a mount of the volume's disk and
// fit for the publication.
func (s *Server) checkStaging(disk blockdev.Disk, p publication) (place, error) {
	staging, err := resolve(p.staging)
	if err != nil {
		return place{}, err
	}
	if err := s.proveStaging(disk, staging); err != nil {
		return place{}, err
	}
	at, err := s.inspect(staging)
	if err != nil {
		return place{}, err
	}
	if p.fsType != "" && at.mount.FSType != p.fsType {
		return place{}, fmt.Errorf("%w: staging path: %v, but %s is asked for", errRefused, at, p.fsType)
	}
	if !at.mount.Writable() && !p.readOnly {
		return place{}, fmt.Errorf("%w: the volume is staged read-only, but to be published writable", errRefused)
	}
	return at, nil
}

// published handles a target at which something is mounted. It reports true
// when that is what was asked for. What has lost its disk is unmounted.
func (s *Server) published(ctx context.Context, disk blockdev.Disk, at place, staging filesystem.MountPoint, p publication) (done bool, err error) {
	switch {
	case at.holds(disk):
		return true, s.provePublished(disk, at.path, staging, p)
	case !at.device && at.gone():
		logging.From(ctx).Warn("unmounting a target whose disk is gone",
			zap.String("volume_id", disk.VolumeID), zap.Stringer("found", at))
		return false, s.unmount(ctx, at.path)
	}
	return false, fmt.Errorf("%w: %v, which is not the volume's disk %s (%s)", errPublished, at, disk.Path, formatNumber(disk.Number))
}

// provePublished returns nil if target is a mount of the disk as asked for.
func (s *Server) provePublished(disk blockdev.Disk, target string, staging filesystem.MountPoint, p publication) error {
	at, err := s.inspect(target)
	if err != nil {
		return err
	}
	if !at.holds(disk) || at.mount.Root != staging.Root {
		return fmt.Errorf("%w: %v, which is not what is staged", errPublished, at)
	}
	if difference := p.difference(at.mount, staging); difference != "" {
		return fmt.Errorf("%w: %v with other options than asked for: %s", errPublished, at, difference)
	}
	return nil
}

// takeBack undoes the publication that this call has made and that isn't as it
// should be for the reason err.
func (s *Server) takeBack(ctx context.Context, target string, err error) error {
	ctx, cancel := tidying(ctx)
	defer cancel()
	if uerr := s.unmount(ctx, target); uerr != nil {
		return errors.Join(err, uerr)
	}
	return dropTarget(target, err)
}

// dropTarget removes a target onto which nothing could be mounted because of
// err. Where that fails too, NodeUnpublishVolume has another go at it.
func dropTarget(target string, err error) error {
	_ = removeTarget(target)
	return err
}

// checkSingle refuses a second target of a volume that may have but one. Its
// own places may be mounted: staging, if it has one, and target.
func (s *Server) checkSingle(mounted []string, own ...string) error {
	for _, path := range own {
		mounted = slices.DeleteFunc(mounted, func(m string) bool { return s.copyOf(m, path) })
	}
	if len(mounted) > 0 {
		return fmt.Errorf("%w: the volume is for a single writer and published at %v", errRefused, mounted)
	}
	return nil
}
