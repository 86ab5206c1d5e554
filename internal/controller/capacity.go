package controller

import (
	"cmp"
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// GetCapacity returns the room for more volumes of a StorageClass in a zone. The
// request has no secrets: it is about the cloud for calls that name none.
func (s *Server) GetCapacity(ctx context.Context, req *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	service, release, err := s.cfg.Source.Use(ctx, nil)
	switch {
	case errors.Is(err, cloud.ErrInvalid):
		return nil, status.Errorf(codes.FailedPrecondition, "capacity is known for the cloud of calls without a secret only: %v", err)
	case err != nil:
		return nil, statusOf(err)
	}
	defer release()
	if len(req.GetVolumeCapabilities()) > 0 {
		if _, err := checkCapabilities(req.GetVolumeCapabilities()); err != nil {
			return nil, err
		}
	}
	// CreateVolume tells a claim what is wrong with its class. Without capacity the scheduler
	// never lets it be called, and the claim waits in silence.
	params := lenient(req.GetParameters())
	ask := volumes.CapacityRequest{Type: params[paramType], Zone: params[paramAvailability]}
	if label := zoneOf(req.GetAccessibleTopology()); label != "" && s.cfg.WithTopology && !s.cfg.IgnoreVolumeAZ {
		if ask.Zone != "" && ask.Zone != label && zone.Label(ask.Zone) != label {
			// Volumes of this class are made elsewhere.
			return &csi.GetCapacityResponse{}, nil
		}
		ask.Zone = cmp.Or(ask.Zone, label)
	}
	room, err := service.Capacity(ctx, ask)
	if err != nil {
		return nil, statusOf(err)
	}
	resp := &csi.GetCapacityResponse{AvailableCapacity: room.Available * gib}
	if room.Available > 0 {
		resp.MinimumVolumeSize = wrapperspb.Int64(gib)
	}
	if room.Largest < volumes.Unlimited {
		resp.MaximumVolumeSize = wrapperspb.Int64(room.Largest * gib)
	}
	return resp, nil
}
