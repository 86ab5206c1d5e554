package node

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// NodeUnpublishVolume unmounts the target path and removes it. It succeeds when
// there is nothing left to do, and needs no disk for it.
func (s *Server) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := s.unpublish(ctx, req); err != nil {
		return nil, failure("unpublish", req.GetVolumeId(), err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (s *Server) unpublish(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) error {
	if err := checkVolumeID(req.GetVolumeId()); err != nil {
		return err
	}
	target, err := checkPath("target_path", req.GetTargetPath())
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, req.GetVolumeId(), target)
	if err != nil {
		return err
	}
	defer unlock()
	if target, err = resolve(target); err != nil {
		return err
	}
	at, err := s.inspect(target)
	if err != nil {
		return err
	}
	if at.mounted {
		if err := s.flush(ctx, target); err != nil {
			if ctx.Err() != nil {
				return err
			}
			logging.From(ctx).Error("unpublish: data could not be written back",
				zap.String("volume_id", req.GetVolumeId()), zap.Error(err))
		}
		if err := s.unmount(ctx, target); err != nil {
			return err
		}
	}
	s.step("unmounted")
	return removeTarget(target)
}
