package volumes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// Snapshot is a copy of a volume at one moment: a snapshot of Cinder's, or a
// backup.
type Snapshot struct {
	ID       string
	Name     string
	VolumeID string
	// SizeGiB is the least size of a volume made from it.
	SizeGiB   int64
	CreatedAt time.Time
	// Ready tells that a volume can be made from it now.
	Ready bool
	// Backup tells a backup from a snapshot.
	Backup bool
}

// SnapshotRequest asks for a snapshot of a volume, or for a backup of it.
type SnapshotRequest struct {
	// Name identifies the request, as that of a CreateRequest does.
	Name     string
	VolumeID string
	// Metadata is recorded with what is made, besides Options.Metadata and the driver's
	// own.
	Metadata map[string]string
	// Backup asks for a backup, kept in Zone where that is not empty.
	Backup bool
	Zone   string
	// Incremental asks for a backup of what has changed since the newest backup of the
	// volume. Where there is none, or that one failed, the backup is a full one.
	Incremental bool
}

// CreateSnapshot returns a snapshot as soon as it is usable, and ErrUnfinished
// when that takes longer than Options.SnapshotWait. It returns a backup, which is
// not ready yet, as soon as its content is safe from changes of the volume: the
// same call, repeated, tells when it is ready, or ErrState if it failed. It
// returns ErrExists when the name is taken by a snapshot of another volume,
// cloud.ErrNotFound when the volume does not exist, cloud.ErrQuota when there may
// be no more.
func (s *Service) CreateSnapshot(ctx context.Context, req SnapshotRequest) (*Snapshot, error) {
	req.Name, req.VolumeID = StoredName(req.Name), plain(req.VolumeID)
	var err error
	if req.Metadata, err = s.metadata(req.Metadata); err != nil {
		return nil, err
	}
	if err := exists("volume", req.VolumeID); err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx, "snapshot name", req.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if req.Backup {
		return s.createBackup(ctx, req)
	}
	snapshot, err := s.snapshotOf(ctx, req, s.opts.SnapshotWait)
	if err != nil {
		return nil, err
	}
	return fromSnapshot(snapshot), nil
}

// snapshotOf finds or makes the snapshot of a request and waits for it, but not
// longer than patience.
func (s *Service) snapshotOf(ctx context.Context, req SnapshotRequest, patience time.Duration) (*cloud.Snapshot, error) {
	snapshot, err := s.earlierSnapshot(ctx, req)
	if err != nil {
		return nil, err
	}
	if snapshot == nil {
		snapshot, err = s.postSnapshot(ctx, req)
		if err != nil {
			return nil, err
		}
	}
	return s.untilReady(ctx, snapshot, patience)
}

// earlierSnapshot finds what an earlier attempt has made: of several the oldest, as
// with volumes. What is being deleted, or failed to be, is none of them.
func (s *Service) earlierSnapshot(ctx context.Context, req SnapshotRequest) (*cloud.Snapshot, error) {
	named, err := everyPage(func(page cloud.Page) ([]cloud.Snapshot, string, error) {
		return s.cloud.ListSnapshots(ctx, cloud.SnapshotFilter{Name: req.Name}, page)
	})
	if err != nil {
		return nil, unfinished(fmt.Errorf("looking for an earlier snapshot %s: %w", req.Name, err))
	}
	named = slices.DeleteFunc(named, func(one cloud.Snapshot) bool {
		given := one.Status == cloud.SnapshotDeleting || one.Status == cloud.SnapshotErrorDeleting
		return one.Name != req.Name || !s.owned(one.Metadata) || given
	})
	if len(named) == 0 {
		return nil, nil
	}
	slices.SortFunc(named, func(a, b cloud.Snapshot) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	one := &named[0]
	for _, twin := range named[1:] {
		logName(ctx, req.Name).Warn("two snapshots of this cluster have one name: the older is used, remove the other, for which its volume can't be deleted",
			zap.String("snapshot", one.ID), zap.String("twin", twin.ID), zap.String("volume", twin.VolumeID))
	}
	_, temporary := one.Metadata[temporaryKey]
	switch {
	case one.VolumeID != req.VolumeID:
		return nil, fmt.Errorf("snapshot %s (%s): %w: it is of volume %s, wanted %s", one.ID, req.Name, ErrExists, one.VolumeID, req.VolumeID)
	case temporary && !req.Backup:
		return nil, fmt.Errorf("snapshot %s (%s): %w: it is for a backup of that name, wanted a snapshot", one.ID, req.Name, ErrExists)
	case !temporary && req.Backup:
		return nil, fmt.Errorf("snapshot %s (%s): %w: it is a snapshot, wanted a backup", one.ID, req.Name, ErrExists)
	}
	return one, nil
}

// postSnapshot asks for a snapshot of which is known that it does not exist.
func (s *Service) postSnapshot(ctx context.Context, req SnapshotRequest) (*cloud.Snapshot, error) {
	metadata := maps.Clone(req.Metadata)
	if req.Backup {
		metadata[temporaryKey] = req.Name
	}
	snapshot, err := s.cloud.CreateSnapshot(ctx, cloud.SnapshotRequest{
		VolumeID:    req.VolumeID,
		Name:        req.Name,
		Description: Description,
		Metadata:    metadata,
		Force:       true,
	})
	switch {
	case err == nil:
		logging.From(ctx).Info("snapshot accepted", zap.String("snapshot", snapshot.ID), zap.String("volume", req.VolumeID))
		return snapshot, nil
	case cloud.Uncertain(err):
		found, again := s.earlierSnapshot(ctx, req)
		if again != nil || found == nil {
			return nil, unfinished(errors.Join(err, again))
		}
		return found, nil
	case errors.Is(err, cloud.ErrInvalid):
		return nil, s.notSnapshotted(ctx, req.VolumeID, err)
	}
	return nil, fmt.Errorf("snapshot %s of volume %s: %w", req.Name, req.VolumeID, err)
}

// notSnapshotted tells why Cinder refused to copy a volume.
func (s *Service) notSnapshotted(ctx context.Context, volumeID string, refusal error) error {
	v, err := s.cloud.GetVolume(ctx, volumeID)
	switch {
	case err != nil:
		return fmt.Errorf("volume %s: %w", volumeID, err)
	case v.Status.Transitional():
		return fmt.Errorf("volume %s has status %s: %w", volumeID, v.Status, unfinished(refusal))
	}
	return fmt.Errorf("volume %s has status %s: %w: %w", volumeID, v.Status, ErrState, refusal)
}

// untilReady waits for a snapshot, but not longer than patience. Nobody is told
// the id of one that is still being made: whether it ever holds the volume's
// content is not known, and where it fails another takes its place.
func (s *Service) untilReady(ctx context.Context, snapshot *cloud.Snapshot, patience time.Duration) (*cloud.Snapshot, error) {
	witnessed := snapshot.Status == cloud.SnapshotCreating
	if witnessed {
		limited, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		now, err := s.snaps.Wait(limited, snapshot.ID, "create snapshot", func(now *cloud.Snapshot) (bool, error) {
			return now == nil || now.Status != cloud.SnapshotCreating, nil
		})
		switch {
		case err != nil && ctx.Err() == nil && limited.Err() != nil:
			return nil, fmt.Errorf("snapshot %s (%s) is still being made after %s: %w", snapshot.ID, snapshot.Name, patience, ErrUnfinished)
		case err != nil:
			return nil, fmt.Errorf("waiting for snapshot %s: %w", snapshot.ID, unfinished(err))
		case now == nil:
			return nil, fmt.Errorf("snapshot %s (%s) disappeared while it was created: %w", snapshot.ID, snapshot.Name, ErrUnfinished)
		}
		snapshot = now
	}
	switch snapshot.Status {
	case cloud.SnapshotError:
		return nil, s.snapshotFailed(ctx, snapshot, witnessed)
	case cloud.SnapshotDeleting, cloud.SnapshotErrorDeleting:
		return nil, fmt.Errorf("snapshot %s (%s) is being deleted, status %s: %w", snapshot.ID, snapshot.Name, snapshot.Status, ErrUnfinished)
	}
	return snapshot, nil
}

// snapshotFailed returns why a snapshot could not be made, and removes it when
// that is certain, so that the next attempt is free.
func (s *Service) snapshotFailed(ctx context.Context, snapshot *cloud.Snapshot, witnessed bool) error {
	fault, err := s.cloud.SnapshotFault(ctx, snapshot.ID)
	if err != nil {
		return unfinished(fmt.Errorf("snapshot %s has status error, reading the cause: %w", snapshot.ID, err))
	}
	cause := fmt.Errorf("snapshot %s (%s) of volume %s failed: %s", snapshot.ID, snapshot.Name, snapshot.VolumeID, fault)
	if witnessed || fault.Creation {
		if _, err := s.deleteSnapshot(ctx, snapshot.ID); err != nil {
			return unfinished(fmt.Errorf("%w; removing it: %w", cause, err))
		}
	}
	return fmt.Errorf("%w: %w", cause, ErrUnfinished)
}

// fromSnapshot translates a snapshot of Cinder's.
func fromSnapshot(s *cloud.Snapshot) *Snapshot {
	return &Snapshot{
		ID: s.ID, Name: s.Name, VolumeID: s.VolumeID, SizeGiB: s.SizeGiB, CreatedAt: s.CreatedAt,
		Ready: s.Status == cloud.SnapshotAvailable,
	}
}
