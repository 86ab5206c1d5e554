package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// DeleteVolume returns when the volume is gone.
func (s *Server) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, missing("volume_id")
	}
	service, release, err := s.cloud(ctx, req.GetSecrets())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := service.Delete(ctx, req.GetVolumeId()); err != nil {
		return nil, statusOf(err)
	}
	return &csi.DeleteVolumeResponse{}, nil
}
