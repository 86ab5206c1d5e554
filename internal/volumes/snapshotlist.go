package volumes

import (
	"context"
	"errors"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// backupMarker precedes the marker of a page of backups, which follow the
// snapshots in a list. No id of Cinder's looks like it.
const backupMarker = "backup/"

// GetSnapshot returns a snapshot or a backup; cloud.ErrNotFound for an unknown
// or odd id.
func (s *Service) GetSnapshot(ctx context.Context, id string) (*Snapshot, error) {
	if err := exists("snapshot", id); err != nil {
		return nil, err
	}
	snapshot, err := s.cloud.GetSnapshot(ctx, id)
	if err == nil {
		return fromSnapshot(snapshot), nil
	}
	if !errors.Is(err, cloud.ErrNotFound) {
		return nil, err
	}
	backup, err := s.cloud.GetBackup(ctx, id)
	if errors.Is(err, cloud.ErrUnsupported) {
		err = &cloud.Error{Kind: cloud.ErrNotFound, Operation: "get snapshot", Resource: id, Err: err}
	}
	if err != nil {
		return nil, err
	}
	return fromBackup(backup, backup.SizeGiB), nil
}

// ListSnapshots returns one page of the snapshots, then the backups, of a
// volume, or of all volumes when volumeID is empty, and the marker of the next
// page. Snapshots that exist only for a backup that is being made are left out.
// A page may be shorter than its limit and yet not the last.
func (s *Service) ListSnapshots(ctx context.Context, volumeID string, page cloud.Page) ([]Snapshot, string, error) {
	if volumeID != "" && !isID(volumeID) {
		return nil, "", nil
	}
	if marker, ok := strings.CutPrefix(page.Marker, backupMarker); ok {
		page.Marker = marker
		return s.listBackups(ctx, volumeID, page)
	}
	snapshots, next, err := s.cloud.ListSnapshots(ctx, cloud.SnapshotFilter{VolumeID: volumeID}, page)
	if err != nil {
		return nil, "", err
	}
	all := make([]Snapshot, 0, len(snapshots))
	for i := range snapshots {
		if _, temporary := snapshots[i].Metadata[temporaryKey]; !temporary {
			all = append(all, *fromSnapshot(&snapshots[i]))
		}
	}
	if next != "" {
		return all, next, nil
	}
	return s.withBackups(ctx, all, volumeID, page.Limit)
}

// withBackups fills the last page of snapshots up with backups.
func (s *Service) withBackups(ctx context.Context, snapshots []Snapshot, volumeID string, limit int) ([]Snapshot, string, error) {
	if limit > 0 && len(snapshots) >= limit {
		// Whether there are backups at all decides whether this is the last.
		backups, _, err := s.listBackups(ctx, volumeID, cloud.Page{Limit: 1})
		if err != nil || len(backups) == 0 {
			return snapshots, "", err
		}
		return snapshots, backupMarker, nil
	}
	if limit > 0 {
		limit -= len(snapshots)
	}
	backups, next, err := s.listBackups(ctx, volumeID, cloud.Page{Limit: limit})
	return append(snapshots, backups...), next, err
}

func (s *Service) listBackups(ctx context.Context, volumeID string, page cloud.Page) ([]Snapshot, string, error) {
	backups, next, err := s.cloud.ListBackups(ctx, cloud.BackupFilter{VolumeID: volumeID}, page)
	switch {
	case errors.Is(err, cloud.ErrUnsupported), errors.Is(err, cloud.ErrNotFound) && page.Marker == "":
		// The cloud has no backup service, and so no backups.
	case err != nil:
		return nil, "", err
	}
	all := make([]Snapshot, 0, len(backups))
	for i := range backups {
		all = append(all, *fromBackup(&backups[i], backups[i].SizeGiB))
	}
	if next != "" {
		next = backupMarker + next
	}
	return all, next, nil
}
