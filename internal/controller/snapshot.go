package controller

import (
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/cinder-csi/cinder-csi/internal/kube"
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
	metadata, err := snapshotObject().metadata(req.GetParameters(), params)
	if err != nil {
		return nil, err
	}
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.CreateSnapshotResponse, error) {
		snapshot, err := service.CreateSnapshot(ctx, volumes.SnapshotRequest{
			Name:        req.GetName(),
			VolumeID:    req.GetSourceVolumeId(),
			Metadata:    metadata,
			Tags:        s.snapshotTags(req.GetParameters(), metadata),
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

// snapshotTags returns a function that reads the tags of a new snapshot, nil where the
// operator wants none. A VolumeSnapshot that is gone asks for none.
func (s *Server) snapshotTags(raw, metadata map[string]string) func(context.Context) (map[string]string, error) {
	if s.cfg.Annotations == nil || s.cfg.TagPrefix == "" {
		return nil
	}
	return func(ctx context.Context) (map[string]string, error) {
		annotations, err := s.annotations(ctx, snapshotObject(), raw)
		if err != nil && !errors.Is(err, kube.ErrNotFound) {
			return nil, err
		}
		return s.tags(annotations, metadata)
	}
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
