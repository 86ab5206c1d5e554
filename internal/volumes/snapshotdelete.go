package volumes

import (
	"context"
	"errors"
	"fmt"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// DeleteSnapshot returns when the snapshot, or the backup, is gone. It returns
// ErrSnapshotInUse when volumes depend on it, and ErrState when Cinder failed
// to delete it.
func (s *Service) DeleteSnapshot(ctx context.Context, id string) error {
	id = plain(id)
	if !isID(id) {
		return nil
	}
	unlock, err := s.lock(ctx, "snapshot", id)
	if err != nil {
		return err
	}
	defer unlock()
	found, err := s.deleteSnapshot(ctx, id)
	if err != nil || found {
		return err
	}
	return s.deleteBackup(ctx, id)
}

// deleteSnapshot deletes a snapshot of Cinder's until it is gone. found tells
// that there was one for certain: without it, and without an error, the id may
// also be that of a backup.
func (s *Service) deleteSnapshot(ctx context.Context, id string) (found bool, err error) {
	for attempts := (backoff{}); ; {
		err := s.cloud.DeleteSnapshot(ctx, id)
		switch {
		case err == nil:
			return true, s.waitSnapshotGone(ctx, id)
		case errors.Is(err, cloud.ErrNotFound):
			return false, nil
		case !undecided(err):
			return false, err
		}
		again, why := s.snapshotNotDeleted(ctx, id, err)
		if !again {
			return false, why
		}
		if err := attempts.wait(ctx); err != nil {
			return false, fmt.Errorf("%w: %w", err, why)
		}
	}
}

// snapshotNotDeleted reads a snapshot whose deletion was refused, or whose
// answer was lost.
func (s *Service) snapshotNotDeleted(ctx context.Context, id string, refusal error) (again bool, why error) {
	snapshot, err := s.cloud.GetSnapshot(ctx, id)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return false, nil
	case err != nil:
		return false, unfinished(errors.Join(refusal, err))
	case snapshot.Status == cloud.SnapshotDeleting:
		return false, s.waitSnapshotGone(ctx, id)
	case snapshot.Status == cloud.SnapshotErrorDeleting:
		return false, s.snapshotKept(ctx, snapshot)
	case cloud.Uncertain(refusal), errors.Is(refusal, cloud.ErrUnavailable):
		return false, unfinished(refusal)
	case snapshot.Status == cloud.SnapshotCreating:
		_, err := s.snaps.Wait(ctx, id, "create snapshot", func(now *cloud.Snapshot) (bool, error) {
			return now == nil || now.Status != cloud.SnapshotCreating, nil
		})
		if err != nil {
			return false, unfinished(err)
		}
		return true, unfinished(refusal)
	case errors.Is(refusal, cloud.ErrConflict):
		return true, unfinished(refusal)
	}
	return false, fmt.Errorf("snapshot %s, status %s: %w: %w", id, snapshot.Status, ErrState, refusal)
}

// waitSnapshotGone waits until a snapshot that is being deleted does not exist
// any more. Cinder accepts to delete one that volumes depend on, and puts it
// back a moment later.
func (s *Service) waitSnapshotGone(ctx context.Context, id string) error {
	kept := 0
	now, err := s.snaps.Wait(ctx, id, "delete snapshot", func(now *cloud.Snapshot) (bool, error) {
		switch {
		case now == nil, now.Status == cloud.SnapshotErrorDeleting:
			return true, nil
		case now.Status == cloud.SnapshotDeleting:
			return false, nil
		}
		kept++
		return kept > 1, nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("waiting for snapshot %s to be gone: %w", id, unfinished(err))
	case now == nil:
		return nil
	}
	return s.snapshotKept(ctx, now)
}

// snapshotKept tells why Cinder did not delete a snapshot.
func (s *Service) snapshotKept(ctx context.Context, snapshot *cloud.Snapshot) error {
	fault, err := s.cloud.SnapshotFault(ctx, snapshot.ID)
	if err != nil {
		return unfinished(err)
	}
	kind := ErrState
	if snapshot.Status == cloud.SnapshotAvailable {
		kind = ErrSnapshotInUse
	}
	return fmt.Errorf("snapshot %s has status %s after it was deleted: %w: %s", snapshot.ID, snapshot.Status, kind, fault)
}
