package controller

import (
	"context"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// metadataPrefix begins the mutable parameters that set metadata, as in
// "metadata/owner: team-a".
const metadataPrefix = "metadata/"

// ControllerModifyVolume returns when the volume has the wanted type and
// metadata.
func (s *Server) ControllerModifyVolume(ctx context.Context, req *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, missing("volume_id")
	}
	service, release, err := s.cloud(ctx, req.GetSecrets())
	if err != nil {
		return nil, err
	}
	defer release()
	change, err := parseMutable(req.GetMutableParameters())
	if err != nil {
		return nil, err
	}
	if err := service.Modify(ctx, req.GetVolumeId(), change); err != nil {
		return nil, statusOf(err)
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}

// parseMutable reads mutable parameters. Unknown ones are always refused: the
// caller counts on the volume being as they say.
func parseMutable(raw map[string]string) (volumes.ModifyRequest, error) {
	var change volumes.ModifyRequest
	rest := make(map[string]string, len(raw))
	for key, value := range raw {
		at := len(metadataPrefix)
		if len(key) < at || !strings.EqualFold(key[:at], metadataPrefix) {
			rest[key] = value
			continue
		}
		if err := checkMetadata(key[at:], value); err != nil {
			return change, status.Errorf(codes.InvalidArgument, "mutable parameter %q: %v", key, err)
		}
		if change.Metadata == nil {
			change.Metadata = make(map[string]string)
		}
		change.Metadata[key[at:]] = value
	}
	params, _, err := attributesClass().read(rest, false)
	if err != nil {
		return change, status.Errorf(codes.InvalidArgument, "mutable %s; %sKEY sets metadata", status.Convert(err).Message(), metadataPrefix)
	}
	change.Type, change.Migrate = params[paramType], params[paramMigrationPolicy] == "on-demand"
	return change, nil
}
