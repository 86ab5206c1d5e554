package controller

import (
	"context"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// The mutable parameters, those of VolumeAttributesClasses: the volume type,
// how far Cinder may go to change it, and metadata as in
// "metadata/owner: team-a".
const (
	paramMigrationPolicy = "migrationPolicy"
	metadataPrefix       = "metadata/"
)

// maxMetadata is the length of the longest key and value that Cinder takes.
const maxMetadata = 255

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
		name, ok := strings.CutPrefix(key, metadataPrefix)
		if !ok {
			rest[key] = value
			continue
		}
		if err := checkMetadata(name, value); err != nil {
			return change, status.Errorf(codes.InvalidArgument, "mutable parameter %q: %v", key, err)
		}
		if change.Metadata == nil {
			change.Metadata = make(map[string]string)
		}
		change.Metadata[name] = value
	}
	params, err := parseParameters(rest, paramType, paramMigrationPolicy)
	if err != nil {
		return change, status.Errorf(codes.InvalidArgument, "mutable %s; and there is %sKEY", status.Convert(err).Message(), metadataPrefix)
	}
	change.Type = params.get(paramType)
	switch policy := params.get(paramMigrationPolicy); policy {
	case "", "never":
	case "on-demand":
		change.Migrate = true
	default:
		return change, status.Errorf(codes.InvalidArgument, "mutable parameter migrationPolicy is %q; there are never and on-demand", policy)
	}
	return change, nil
}
