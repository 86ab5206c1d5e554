package controller

import (
	"context"
	"errors"
	"maps"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/cinder-csi/cinder-csi/internal/claims"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// CreateSnapshot returns a snapshot, or a backup. ReadyToUse of a backup is false until
// Cinder has copied it.
func (s *Server) CreateSnapshot(ctx context.Context, req *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if err := checkName(req.GetName()); err != nil {
		return nil, err
	}
	if req.GetSourceVolumeId() == "" {
		return nil, missing("source_volume_id")
	}
	params, err := s.read(ctx, snapshotClass(), req.GetParameters())
	if err != nil {
		return nil, err
	}
	metadata, err := s.snapshotMetadata(ctx, req.GetParameters(), params)
	if err != nil {
		return nil, statusOf(err)
	}
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.CreateSnapshotResponse, error) {
		snapshot, err := service.CreateSnapshot(ctx, volumes.SnapshotRequest{
			Name:        req.GetName(),
			VolumeID:    req.GetSourceVolumeId(),
			Metadata:    metadata,
			Backup:      params[paramType] == "backup",
			Incremental: params[paramIncremental] == "true",
			Zone:        params[paramAvailability],
		})
		if err != nil {
			return nil, err
		}
		return &csi.CreateSnapshotResponse{Snapshot: describe(snapshot)}, nil
	})
}

// snapshotMetadata returns the metadata of a new snapshot or backup. A VolumeSnapshot that
// is gone asks for no tags: a snapshot begun for it can be finished, and then deleted.
func (s *Server) snapshotMetadata(ctx context.Context, raw map[string]string, params parameters) (map[string]string, error) {
	metadata, err := snapshotObject().metadata(raw, params)
	if err != nil || s.cfg.Annotations == nil || s.cfg.TagPrefix == "" {
		return metadata, err
	}
	annotations, err := s.annotations(ctx, snapshotObject(), raw)
	if err != nil && !errors.Is(err, claims.ErrNotFound) {
		return nil, err
	}
	tags, err := s.tags(annotations, metadata)
	maps.Copy(metadata, tags)
	return metadata, err
}

// DeleteSnapshot returns when the snapshot, or the backup, is gone.
func (s *Server) DeleteSnapshot(ctx context.Context, req *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if req.GetSnapshotId() == "" {
		return nil, missing("snapshot_id")
	}
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.DeleteSnapshotResponse, error) {
		return &csi.DeleteSnapshotResponse{}, service.DeleteSnapshot(ctx, req.GetSnapshotId())
	})
}

// GetSnapshot returns a snapshot or a backup.
func (s *Server) GetSnapshot(ctx context.Context, req *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	if req.GetSnapshotId() == "" {
		return nil, missing("snapshot_id")
	}
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.GetSnapshotResponse, error) {
		snapshot, err := service.GetSnapshot(ctx, req.GetSnapshotId())
		if err != nil {
			return nil, err
		}
		return &csi.GetSnapshotResponse{Snapshot: describe(snapshot)}, nil
	})
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
