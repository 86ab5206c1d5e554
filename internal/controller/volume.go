package controller

import (
	"context"
	"errors"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// DeleteVolume returns when the volume is gone.
func (s *Server) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, missing("volume_id")
	}
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.DeleteVolumeResponse, error) {
		return &csi.DeleteVolumeResponse{}, service.Delete(ctx, req.GetVolumeId())
	})
}

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
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.ControllerExpandVolumeResponse, error) {
		size, err := service.Extend(ctx, req.GetVolumeId(), size)
		if err == nil && limit > 0 && size > limit {
			err = status.Errorf(codes.OutOfRange, "volume %s has %d GiB, more than the limit of %d GiB", req.GetVolumeId(), size, limit)
		}
		return &csi.ControllerExpandVolumeResponse{CapacityBytes: size * gib, NodeExpansionRequired: true}, statusOfExpansion(err)
	})
}

// ControllerModifyVolume returns when the volume has the wanted type and metadata.
func (s *Server) ControllerModifyVolume(ctx context.Context, req *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, missing("volume_id")
	}
	change, err := parseMutable(req.GetMutableParameters())
	if err != nil {
		return nil, err
	}
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.ControllerModifyVolumeResponse, error) {
		return &csi.ControllerModifyVolumeResponse{}, service.Modify(ctx, req.GetVolumeId(), change)
	})
}

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
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.ValidateVolumeCapabilitiesResponse, error) {
		volume, err := service.Get(ctx, req.GetVolumeId())
		if err != nil {
			return nil, err
		}
		switch err := statusOf(s.unfit(ctx, service, req, volume)); status.Code(err) {
		case codes.OK:
		case codes.InvalidArgument:
			return &csi.ValidateVolumeCapabilitiesResponse{Message: status.Convert(err).Message()}, nil
		default:
			return nil, err
		}
		return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
			VolumeContext:      req.GetVolumeContext(),
			VolumeCapabilities: req.GetVolumeCapabilities(),
			Parameters:         req.GetParameters(),
			MutableParameters:  req.GetMutableParameters(),
		}}, nil
	})
}

// unfit returns InvalidArgument with the reason why a volume doesn't have some
// capabilities, or isn't of some class, as far as that can be seen from the volume.
func (s *Server) unfit(ctx context.Context, service *volumes.Service, req *csi.ValidateVolumeCapabilitiesRequest, v *cloud.Volume) error {
	needed, err := checkCapabilities(req.GetVolumeCapabilities())
	if err != nil {
		return err
	}
	if needed.multiattach && !v.Multiattach {
		return status.Errorf(codes.InvalidArgument, "volume type %s does not allow several nodes (multiattach)", v.Type)
	}
	sourced := v.SnapshotID+v.SourceVolumeID+v.BackupID != ""
	wanted, err := s.readClass(ctx, req.GetParameters(), req.GetMutableParameters(), req.GetVolumeCapabilities(), sourced)
	if err != nil || wanted.kind() == "" {
		return err
	}
	same, err := service.HasType(ctx, v, wanted.kind())
	if err == nil && !same {
		err = status.Errorf(codes.InvalidArgument, "volume %s is of type %s, not %s", v.ID, v.Type, wanted.kind())
	}
	return err
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
	return withContext(described, v, make(map[string]string))
}

// withContext completes the description of a volume by its volume context: what the
// class asks the node for, and what is read from the volume, so that it is the same in
// every answer.
func withContext(described *csi.Volume, v *cloud.Volume, context map[string]string) *csi.Volume {
	same, different := volumes.AffinityOf(v)
	if same != "" {
		context[affinityAnnotation] = same
	}
	if different != "" {
		context[antiAffinityAnnotation] = different
	}
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

// parseMutable reads mutable parameters. Unknown ones are always refused: the
// caller counts on the volume being as they say.
func parseMutable(raw map[string]string) (volumes.ModifyRequest, error) {
	var change volumes.ModifyRequest
	rest := make(map[string]string, len(raw))
	for key, value := range raw {
		n := len(metadataPrefix)
		if len(key) < n || !strings.EqualFold(key[:n], metadataPrefix) {
			rest[key] = value
			continue
		}
		if err := checkMetadata(key[n:], value); err != nil {
			return change, status.Errorf(codes.InvalidArgument, "mutable parameter %q: %v", key, err)
		}
		if change.Metadata == nil {
			change.Metadata = make(map[string]string)
		}
		change.Metadata[key[n:]] = value
	}
	params, _, err := attributesClass().read(rest, false)
	if err != nil {
		return change, status.Errorf(codes.InvalidArgument, "mutable %s; %sKEY sets metadata", status.Convert(err).Message(), metadataPrefix)
	}
	change.Type, change.Migrate = params[paramType], params[paramMigrationPolicy] == "on-demand"
	return change, nil
}
