package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ControllerExpandVolume returns when the volume has at least the wanted size.
func (s *Server) ControllerExpandVolume(ctx context.Context, req *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	switch {
	case req.GetVolumeId() == "":
		return nil, missing("volume_id")
	case req.GetCapacityRange() == nil:
		return nil, missing("capacity_range")
	}
	size, limit, err := sizes(req.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	service, release, err := s.cloud(ctx, req.GetSecrets())
	if err != nil {
		return nil, err
	}
	defer release()
	size, err = service.Extend(ctx, req.GetVolumeId(), size)
	if err != nil {
		return nil, statusOfExpansion(err)
	}
	if limit > 0 && size > limit {
		return nil, status.Errorf(codes.OutOfRange, "volume %s has %d GiB, more than the limit of %d GiB", req.GetVolumeId(), size, limit)
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: size * gib, NodeExpansionRequired: true}, nil
}
