package volumes

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// BackupMarker precedes the marker of a page of backups, which follow the
// snapshots in a list. No id of Cinder's looks like it.
const BackupMarker = "backup/"

// GetSnapshot returns a snapshot or a backup; cloud.ErrNotFound for an unknown
// or odd id.
func (s *Service) GetSnapshot(ctx context.Context, id string) (*Snapshot, error) {
	id = canonicalID(id)
	if err := checkID("snapshot", id); err != nil {
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
// volume, or of all volumes when volumeID is empty, and where the next page
// begins: it has no marker after the last. Snapshots that exist only for a
// backup that is being made are left out. A page may be shorter than its limit
// and yet not the last.
func (s *Service) ListSnapshots(ctx context.Context, volumeID string, page cloud.Page) ([]Snapshot, cloud.Page, error) {
	volumeID = canonicalID(volumeID)
	if volumeID != "" && !isID(volumeID) {
		return nil, cloud.Page{}, nil
	}
	page.Stable = true
	if marker, ok := strings.CutPrefix(page.Marker, BackupMarker); ok {
		page.Marker = marker
		return s.listBackups(ctx, volumeID, page)
	}
	snapshots, next, err := s.cloud.ListSnapshots(ctx, cloud.SnapshotFilter{VolumeID: volumeID}, page)
	if err != nil {
		return nil, cloud.Page{}, err
	}
	all := make([]Snapshot, 0, len(snapshots))
	for i := range snapshots {
		if _, temporary := snapshots[i].Metadata[temporaryKey]; !temporary {
			all = append(all, *fromSnapshot(&snapshots[i]))
		}
	}
	if next == "" {
		return s.withBackups(ctx, all, volumeID, page.Limit)
	}
	page.Marker, page.MarkerCreated = next, time.Time{}
	if n := len(snapshots); n > 0 && snapshots[n-1].ID == next {
		page.MarkerCreated = snapshots[n-1].CreatedAt
	}
	return all, page, nil
}

// withBackups fills the last page of snapshots up with backups.
func (s *Service) withBackups(ctx context.Context, snapshots []Snapshot, volumeID string, limit int) ([]Snapshot, cloud.Page, error) {
	if limit > 0 && len(snapshots) >= limit {
		// Whether there are backups at all decides whether this is the last.
		backups, _, err := s.listBackups(ctx, volumeID, cloud.Page{Limit: 1, Stable: true})
		if err != nil || len(backups) == 0 {
			return snapshots, cloud.Page{}, err
		}
		return snapshots, cloud.Page{Limit: limit, Stable: true, Marker: BackupMarker}, nil
	}
	first := cloud.Page{Limit: limit, Stable: true}
	if limit > 0 {
		first.Limit -= len(snapshots)
	}
	backups, next, err := s.listBackups(ctx, volumeID, first)
	next.Limit = limit
	return append(snapshots, backups...), next, err
}

func (s *Service) listBackups(ctx context.Context, volumeID string, page cloud.Page) ([]Snapshot, cloud.Page, error) {
	backups, next, err := s.cloud.ListBackups(ctx, cloud.BackupFilter{VolumeID: volumeID}, page)
	switch {
	case page.Marker == "" && cloud.NotTold(err):
		// The cloud has no backup service, or none for this account: nothing is concluded
		// from what a list of snapshots leaves out.
	case err != nil:
		return nil, cloud.Page{}, err
	}
	all := make([]Snapshot, 0, len(backups))
	for i := range backups {
		all = append(all, *fromBackup(&backups[i], backups[i].SizeGiB))
	}
	if next == "" {
		return all, cloud.Page{}, nil
	}
	page.Marker, page.MarkerCreated = BackupMarker+next, time.Time{}
	if n := len(backups); n > 0 && backups[n-1].ID == next {
		page.MarkerCreated = backups[n-1].CreatedAt
	}
	return all, page, nil
}
