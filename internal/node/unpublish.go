package node

import (
	"context"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// NodeUnpublishVolume unmounts the target path and removes it. It succeeds when
// there is nothing left to do, and needs no disk for it. It writes nothing back
// itself: NodeUnstageVolume does, and a pod on storage that hangs can be removed.
func (s *Server) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := s.unpublish(ctx, req); err != nil {
		return nil, s.failure("unpublish", req.GetVolumeId(), err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (s *Server) unpublish(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) error {
	target, err := checkVolume(req.GetVolumeId(), "target_path", req.GetTargetPath())
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, req.GetVolumeId(), target)
	if err != nil {
		return err
	}
	defer unlock()
	at, err := s.inspect(target)
	if err != nil {
		return err
	}
	if at.mounted {
		if err := s.checkNotForeign(ctx, req.GetVolumeId(), at); err != nil {
			return err
		}
		if err := s.cfg.FS.Unmount(ctx, at.path); err != nil {
			return err
		}
	}
	return removeTarget(at.path)
}

// identifyTime is how long it may take to find out whose disk is at a target.
const identifyTime = time.Second

// checkNotForeign refuses a target that is known to be another volume's. A workload
// whose disk is gone, or doesn't answer, must be able to end: then nothing is known.
func (s *Server) checkNotForeign(ctx context.Context, volumeID string, at pathState) error {
	ctx, cancel := context.WithTimeout(ctx, identifyTime)
	defer cancel()
	here, err := s.present(ctx, volumeID)
	if err != nil {
		logging.From(ctx).Debug("unpublish: the disks of the volume are not known", zap.Error(err))
		return nil
	}
	if disks := here.all(); s.foreign(ctx, at, disks) {
		return wrongDisk(disks[0], errOtherwise, at)
	}
	return nil
}
