package controller

import (
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// ControllerGetVolume returns a volume and where it is published. The request
// names no cloud, so that all are asked until one has it: also those that are
// known from the secrets of earlier calls.
func (s *Server) ControllerGetVolume(ctx context.Context, req *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, missing("volume_id")
	}
	all, release := s.cfg.Source.All(ctx)
	defer release()
	var failed error
	for _, one := range all {
		if one.Err != nil {
			failed = one.Err
			continue
		}
		volume, err := one.Service.Get(ctx, req.GetVolumeId())
		switch {
		case err == nil:
			return &csi.ControllerGetVolumeResponse{
				Volume: s.existing(volume),
				Status: &csi.ControllerGetVolumeResponse_VolumeStatus{PublishedNodeIds: publishedNodes(volume)},
			}, nil
		case !errors.Is(err, cloud.ErrNotFound):
			failed = err
		}
	}
	if failed != nil {
		return nil, statusOf(failed)
	}
	return nil, status.Errorf(codes.NotFound, "volume %s does not exist", req.GetVolumeId())
}

// ValidateVolumeCapabilities confirms what CreateVolume would have accepted for
// the volume.
func (s *Server) ValidateVolumeCapabilities(ctx context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	switch {
	case req.GetVolumeId() == "":
		return nil, missing("volume_id")
	case len(req.GetVolumeCapabilities()) == 0:
		return nil, missing("volume_capabilities")
	}
	service, release, err := s.cloud(ctx, req.GetSecrets())
	if err != nil {
		return nil, err
	}
	defer release()
	volume, err := service.Get(ctx, req.GetVolumeId())
	if err != nil {
		return nil, statusOf(err)
	}
	needed, err := checkCapabilities(req.GetVolumeCapabilities())
	if err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: status.Convert(err).Message()}, nil
	}
	if needed.multiattach && !volume.Multiattach {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: "volume type " + volume.Type + " does not allow several nodes (multiattach)"}, nil
	}
	switch err := s.checkParameters(ctx, service, req, volume); {
	case err != nil && status.Code(err) != codes.InvalidArgument:
		return nil, err
	case err != nil:
		return &csi.ValidateVolumeCapabilitiesResponse{Message: status.Convert(err).Message()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext:      req.GetVolumeContext(),
		VolumeCapabilities: req.GetVolumeCapabilities(),
		Parameters:         req.GetParameters(),
		MutableParameters:  req.GetMutableParameters(),
	}}, nil
}

// checkParameters returns why a volume is not one of some parameters, as far as
// that can be seen from the volume.
func (s *Server) checkParameters(ctx context.Context, service *volumes.Service, req *csi.ValidateVolumeCapabilitiesRequest, v *cloud.Volume) error {
	sourced := v.SnapshotID+v.SourceVolumeID+v.BackupID != ""
	wanted, err := s.readClass(ctx, req.GetParameters(), req.GetMutableParameters(), req.GetVolumeCapabilities(), sourced)
	if err != nil || wanted.kind() == "" {
		return err
	}
	same, err := service.HasType(ctx, v, wanted.kind())
	if err == nil && !same {
		return status.Errorf(codes.InvalidArgument, "volume %s is of type %s, not %s", v.ID, v.Type, wanted.kind())
	}
	return statusOf(err)
}

// existing describes a volume that was not made by the present request.
func (s *Server) existing(v *cloud.Volume) *csi.Volume {
	described := &csi.Volume{VolumeId: v.ID, CapacityBytes: v.SizeGiB * gib}
	if !s.cfg.IgnoreVolumeAZ {
		described.AccessibleTopology = s.accessibleFrom(v.Zone, nil)
	}
	switch {
	case v.SourceVolumeID != "":
		described.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: v.SourceVolumeID},
		}}
	case v.SnapshotID+v.BackupID != "":
		described.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: v.SnapshotID + v.BackupID},
		}}
	}
	context := make(map[string]string)
	addAffinity(context, v)
	if described.ContentSource != nil {
		context[resizeRequired] = "true"
	}
	if len(context) > 0 {
		described.VolumeContext = context
	}
	return described
}

// publishedNodes returns the servers that a volume is attached to. Cinder also
// attaches volumes to what is no server.
func publishedNodes(v *cloud.Volume) []string {
	nodes := make([]string, 0, len(v.Attachments))
	for _, a := range v.Attachments {
		if a.ServerID != "" {
			nodes = append(nodes, a.ServerID)
		}
	}
	return nodes
}
