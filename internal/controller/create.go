package controller

import (
	"context"
	"maps"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// resizeRequired is the key of the volume context that tells the node that the
// filesystem came with the content, and may be smaller than the volume.
const resizeRequired = "cinder.csi.openstack.org/resizeRequired"

// maxName is the length of the longest name that Cinder takes.
const maxName = 255

// CreateVolume returns a volume that is usable.
func (s *Server) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	create, node, err := s.createRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.CreateVolumeResponse, error) {
		volume, err := service.Create(ctx, create)
		if err != nil {
			return nil, err
		}
		// The answer is the same every time the request is repeated.
		return &csi.CreateVolumeResponse{Volume: withContext(&csi.Volume{
			VolumeId:           volume.ID,
			CapacityBytes:      volume.SizeGiB * gib,
			ContentSource:      req.GetVolumeContentSource(),
			AccessibleTopology: s.accessibleFrom(volume.Zone, req.GetAccessibilityRequirements()),
		}, volume, node)}, nil
	})
}

// createRequest translates and checks a request. node is the part of the volume context
// that the class asks for.
func (s *Server) createRequest(ctx context.Context, req *csi.CreateVolumeRequest) (create volumes.CreateRequest, node map[string]string, err error) {
	if err := checkName(req.GetName()); err != nil {
		return create, nil, err
	}
	needed, err := checkCapabilities(req.GetVolumeCapabilities())
	if err != nil {
		return create, nil, err
	}
	size, limit, err := sizes(req.GetCapacityRange())
	if err != nil {
		return create, nil, err
	}
	wanted, err := s.readClass(ctx, req.GetParameters(), req.GetMutableParameters(), req.GetVolumeCapabilities(), req.GetVolumeContentSource() != nil)
	if err != nil {
		return create, nil, err
	}
	metadata, err := claimObject().metadata(req.GetParameters(), wanted.parameters)
	if err != nil {
		return create, nil, err
	}
	maps.Copy(metadata, wanted.change.Metadata)
	where := s.placementFor(wanted.parameters[paramAvailability], req.GetAccessibilityRequirements())
	create = volumes.CreateRequest{
		Name: req.GetName(), SizeGiB: size, LimitGiB: limit, Type: wanted.kind(),
		Zone: where.zone, AcceptZones: where.accept, AnyZone: where.anyZone,
		Multiattach: needed.multiattach,
		Claim:       s.claim(req.GetParameters(), metadata),
		Metadata:    metadata,
	}
	if source := req.GetVolumeContentSource(); source != nil {
		create.SnapshotID, create.SourceVolumeID = source.GetSnapshot().GetSnapshotId(), source.GetVolume().GetVolumeId()
		if create.SnapshotID == "" && create.SourceVolumeID == "" {
			return create, nil, missing("id of the volume content source")
		}
	}
	return create, wanted.node, nil
}

// checkName refuses names that Cinder could not store as they are: two names that it
// stores as one would share what is made for them.
func checkName(name string) error {
	if name == "" {
		return missing("name")
	}
	if n := len([]rune(name)); n > maxName {
		return status.Errorf(codes.InvalidArgument, "name has %d characters, at most %d are possible", n, maxName)
	}
	if volumes.StoredName(name) != name {
		return status.Errorf(codes.InvalidArgument, "name %q begins or ends with white space, which Cinder takes off", name)
	}
	return nil
}

// gib is the unit of Cinder's sizes, in bytes.
const gib int64 = 1 << 30

// sizes returns the wanted size in GiB, rounded up, and the limit in GiB,
// rounded down, 0 for none. A range that asks for nothing is 1 GiB.
func sizes(r *csi.CapacityRange) (size, limit int64, err error) {
	required, limitBytes := r.GetRequiredBytes(), r.GetLimitBytes()
	if required < 0 || limitBytes < 0 {
		return 0, 0, status.Errorf(codes.InvalidArgument, "capacity range %d to %d bytes is negative", required, limitBytes)
	}
	if limitBytes > 0 && required > limitBytes {
		return 0, 0, status.Errorf(codes.OutOfRange, "required_bytes %d is more than limit_bytes %d", required, limitBytes)
	}
	size, limit = 1, limitBytes/gib
	if required > 0 {
		size = (required-1)/gib + 1
	}
	if limitBytes > 0 && size > limit {
		return 0, 0, status.Errorf(codes.OutOfRange, "a volume has a whole number of GiB, and there is none from %d to %d bytes", required, limitBytes)
	}
	return size, limit, nil
}
