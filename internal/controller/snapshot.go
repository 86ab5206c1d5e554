package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// CreateSnapshot returns a snapshot, or a backup, that is usable or will be:
// the answer tells.
func (s *Server) CreateSnapshot(ctx context.Context, req *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if err := checkName(req.GetName()); err != nil {
		return nil, err
	}
	if req.GetSourceVolumeId() == "" {
		return nil, missing("source_volume_id")
	}
	params, err := s.classParameters(ctx, req.GetParameters(), []string{paramType, paramAvailability, paramForceCreate, paramBackupLimit})
	if err != nil {
		return nil, err
	}
	kind := params.get(paramType)
	if kind != "" && kind != "snapshot" && kind != "backup" {
		return nil, status.Errorf(codes.InvalidArgument, "parameter %s is %q; there are snapshot and backup", paramType, kind)
	}
	service, release, err := s.cloud(ctx, req.GetSecrets())
	if err != nil {
		return nil, err
	}
	defer release()
	snapshot, err := service.CreateSnapshot(ctx, volumes.SnapshotRequest{
		Name:     req.GetName(),
		VolumeID: req.GetSourceVolumeId(),
		Metadata: metadataOf(req.GetParameters(), snapshotMetadataKeys()),
		Backup:   kind == "backup",
		Zone:     params.get(paramAvailability),
	})
	if err != nil {
		return nil, statusOf(err)
	}
	return &csi.CreateSnapshotResponse{Snapshot: describe(snapshot)}, nil
}

// DeleteSnapshot returns when the snapshot, or the backup, is gone.
func (s *Server) DeleteSnapshot(ctx context.Context, req *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if req.GetSnapshotId() == "" {
		return nil, missing("snapshot_id")
	}
	service, release, err := s.cloud(ctx, req.GetSecrets())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := service.DeleteSnapshot(ctx, req.GetSnapshotId()); err != nil {
		return nil, statusOf(err)
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

// GetSnapshot returns a snapshot or a backup.
func (s *Server) GetSnapshot(ctx context.Context, req *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	if req.GetSnapshotId() == "" {
		return nil, missing("snapshot_id")
	}
	service, release, err := s.cloud(ctx, req.GetSecrets())
	if err != nil {
		return nil, err
	}
	defer release()
	snapshot, err := service.GetSnapshot(ctx, req.GetSnapshotId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &csi.GetSnapshotResponse{Snapshot: describe(snapshot)}, nil
}

// describe translates a snapshot.
func describe(snapshot *volumes.Snapshot) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId:     snapshot.ID,
		SourceVolumeId: snapshot.VolumeID,
		SizeBytes:      snapshot.SizeGiB * gib,
		CreationTime:   timestamppb.New(snapshot.CreatedAt),
		ReadyToUse:     snapshot.Ready,
	}
}
