package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// temporaryKey marks a snapshot that exists only until a backup was made of it.
// Its value is the name of the backup.
const temporaryKey = ReservedPrefix + "temporary-for-backup"

// createBackup takes one step towards a backup: a temporary snapshot, which
// keeps the volume usable meanwhile and its content from one moment; the backup
// of that; and, when it is complete, the end of the snapshot. Each step finds
// what the steps before have made, so that it is called until all are done.
func (s *Service) createBackup(ctx context.Context, req SnapshotRequest) (made *Snapshot, err error) {
	ctx, end := s.operation(ctx, backupCreate, req.Name, "")
	defer func() {
		if err == nil && !made.Ready {
			_ = end(ErrUnfinished)
			return
		}
		err = end(err)
	}()
	backup, err := s.earlierBackup(ctx, req)
	if err != nil {
		return nil, err
	}
	if backup != nil {
		return s.backupState(ctx, backup, true)
	}
	snapshot, err := s.snapshotOf(ctx, req)
	if err != nil {
		return nil, err
	}
	if snapshot.Status != cloud.SnapshotAvailable {
		return nil, fmt.Errorf("snapshot %s for backup %s has status %s: %w", snapshot.ID, req.Name, snapshot.Status, ErrUnfinished)
	}
	backup, err = s.postBackup(ctx, req, snapshot)
	switch {
	case err != nil:
		return nil, err
	case backup.Status != cloud.BackupCreating:
		// The answer was lost for so long that it is over.
		return s.backupState(ctx, backup, false)
	}
	return fromBackup(backup, snapshot.SizeGiB), nil
}

// earlierBackup finds what an earlier attempt has made, of several the oldest:
// nothing, where the cloud has no backups at all. One that is being deleted, or failed
// to be, is none of them.
func (s *Service) earlierBackup(ctx context.Context, req SnapshotRequest) (*cloud.Backup, error) {
	one, err := oldest(ctx, req.Name, func(page cloud.Page) ([]cloud.Backup, string, error) {
		return s.cloud.ListBackups(ctx, cloud.BackupFilter{Name: req.Name}, page)
	}, func(o *cloud.Backup) copied {
		abandoned := o.Status == cloud.BackupDeleting || o.Status == cloud.BackupErrorDeleting
		return copied{"backup", o.ID, o.VolumeID, o.CreatedAt, o.Name == req.Name && s.owned(o.Metadata) && !abandoned}
	})
	switch {
	case errors.Is(err, cloud.ErrNotFound), errors.Is(err, cloud.ErrUnsupported):
		return nil, err
	case err != nil:
		return nil, unfinished(err)
	case one == nil:
		return nil, nil
	}
	if one.VolumeID != req.VolumeID {
		return nil, fmt.Errorf("backup %s (%s): %w: it is of volume %s, wanted %s", one.ID, req.Name, ErrExists, one.VolumeID, req.VolumeID)
	}
	return one, nil
}

// postBackup asks for a backup of the temporary snapshot.
func (s *Service) postBackup(ctx context.Context, req SnapshotRequest, snapshot *cloud.Snapshot) (*cloud.Backup, error) {
	ask := cloud.BackupRequest{
		VolumeID:    req.VolumeID,
		SnapshotID:  snapshot.ID,
		Name:        req.Name,
		Description: Description,
		Zone:        req.Zone,
		Metadata:    maps.Clone(req.Metadata),
		Incremental: req.Incremental,
	}
	maps.Copy(ask.Metadata, snapshot.Metadata)
	delete(ask.Metadata, temporaryKey)
	if _, tagged := ask.Metadata["type"]; !tagged {
		ask.Metadata["type"] = "backup"
	}
	backup, err := s.cloud.CreateBackup(ctx, ask)
	if ask.Incremental && errors.Is(err, cloud.ErrInvalid) {
		if err = s.needsFullBackup(ctx, req, err); err == nil {
			ask.Incremental = false
			backup, err = s.cloud.CreateBackup(ctx, ask)
		}
	}
	switch {
	case err == nil:
		logging.From(ctx).Info("backup accepted", zap.String("snapshotID", backup.ID))
		if backup.CreatedAt.IsZero() {
			// Cinder does not tell; its content is as old as the snapshot.
			backup.CreatedAt = snapshot.CreatedAt
		}
		return backup, nil
	case cloud.Uncertain(err):
		found, again := s.earlierBackup(ctx, req)
		if again != nil || found == nil {
			return nil, unfinished(errors.Join(err, again))
		}
		return found, nil
	}
	err = fmt.Errorf("backup %s of volume %s: %w", req.Name, req.VolumeID, err)
	if errors.Is(err, ErrUnfinished) || errors.Is(err, cloud.ErrUnavailable) || errors.Is(err, cloud.ErrConflict) || ctx.Err() != nil {
		// The snapshot stays: it is found and used when the call is repeated.
		return nil, unfinished(err)
	}
	if _, dropErr := s.deleteSnapshot(ctx, snapshot.ID); dropErr != nil {
		return nil, unfinished(errors.Join(err, dropErr))
	}
	return nil, err
}

// needsFullBackup decides what becomes of an incremental backup that Cinder refuses. It
// builds on the newest backup of the volume, which has to be available
// (cinder/backup/api.py, create): a full one is made where there is none or that failed.
// While that is being made, restored or deleted, the error is ErrUnfinished.
func (s *Service) needsFullBackup(ctx context.Context, req SnapshotRequest, refusal error) error {
	made, err := everyPage(func(page cloud.Page) ([]cloud.Backup, string, error) {
		return s.cloud.ListBackups(ctx, cloud.BackupFilter{VolumeID: req.VolumeID}, page)
	})
	if err != nil {
		return unfinished(errors.Join(refusal, err))
	}
	if len(made) > 0 {
		newest := slices.MaxFunc(made, func(a, b cloud.Backup) int { return a.CreatedAt.Compare(b.CreatedAt) })
		switch newest.Status {
		case cloud.BackupError, cloud.BackupErrorDeleting:
		case cloud.BackupAvailable:
			return refusal
		default:
			return fmt.Errorf("an incremental backup builds on backup %s, which has status %s: %w", newest.ID, newest.Status, unfinished(refusal))
		}
	}
	logging.From(ctx).Info("the volume has no backup that an incremental one can build on: a full one is made")
	return nil
}

// backupState answers for a backup that exists. idReturned tells that an earlier call may
// have returned its id. Such a backup stays after a failure until it is deleted: the
// caller, who goes by the first id that it hears, would take another one for the same.
func (s *Service) backupState(ctx context.Context, backup *cloud.Backup, idReturned bool) (*Snapshot, error) {
	saw(ctx, backup.VolumeID, string(backup.Status))
	waited(ctx, backup.Status != cloud.BackupCreating)
	switch backup.Status {
	case cloud.BackupAvailable, cloud.BackupRestoring:
		if err := s.dropTemporary(ctx, backup); err != nil {
			return nil, err
		}
	case cloud.BackupError:
		if !idReturned {
			if err := s.deleteBackup(ctx, backup.ID); err != nil {
				return nil, unfinished(fmt.Errorf("removing failed backup %s: %w", backup.ID, err))
			}
			return nil, fmt.Errorf("backup %s (%s) of volume %s failed: %s: %w", backup.ID, backup.Name, backup.VolumeID, cloud.Fault{Text: backup.FailReason}, ErrUnfinished)
		}
		if err := s.dropTemporary(ctx, backup); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("backup %s (%s) of volume %s failed: %w, who deletes it and asks for another: %s",
			backup.ID, backup.Name, backup.VolumeID, ErrState, cloud.Fault{Text: backup.FailReason})
	case cloud.BackupDeleting, cloud.BackupErrorDeleting:
		return nil, fmt.Errorf("backup %s (%s) is being deleted, status %s: %w", backup.ID, backup.Name, backup.Status, ErrUnfinished)
	}
	return fromBackup(backup, backup.SizeGiB), nil
}

// dropTemporary deletes the snapshot that a backup was made of.
func (s *Service) dropTemporary(ctx context.Context, backup *cloud.Backup) error {
	if backup.SnapshotID == "" || !s.owned(backup.Metadata) {
		return nil
	}
	snapshot, err := ifExists(s.cloud.GetSnapshot(ctx, backup.SnapshotID))
	if err != nil {
		return unfinished(err)
	}
	if snapshot == nil || snapshot.Metadata[temporaryKey] != backup.Name || !s.owned(snapshot.Metadata) {
		return nil
	}
	if _, err := s.deleteSnapshot(ctx, snapshot.ID); err != nil {
		return unfinished(fmt.Errorf("removing the temporary snapshot of backup %s: %w", backup.ID, err))
	}
	return nil
}

// deleteBackup deletes a backup until it is gone, after what is left of its
// temporary snapshot: once the backup is gone, nothing leads to the snapshot any more,
// which would keep the volume for ever. What does not exist is gone.
func (s *Service) deleteBackup(ctx context.Context, id string) (err error) {
	ctx, end := s.operation(ctx, backupDelete, id, "")
	defer func() { err = end(err) }()
	backup, err := s.cloud.GetBackup(ctx, id)
	switch {
	case errors.Is(err, cloud.ErrNotFound), errors.Is(err, cloud.ErrUnsupported):
		return nil
	case err != nil:
		return err
	case backup.Status == cloud.BackupCreating:
		// Cinder deletes neither the backup now nor the snapshot that it reads.
		return fmt.Errorf("backup %s is still being made: %w", id, ErrUnfinished)
	}
	if err := s.dropTemporary(ctx, backup); err != nil {
		return err
	}
	return change(ctx,
		func() error { return s.cloud.DeleteBackup(ctx, id) },
		func() error { return s.waitBackupGone(ctx, id) },
		func(refusal error) (bool, error) { return s.backupNotDeleted(ctx, id, refusal) })
}

// backupNotDeleted reads a backup whose deletion was refused, or whose answer
// was lost. again tells to try again.
func (s *Service) backupNotDeleted(ctx context.Context, id string, refusal error) (again bool, why error) {
	if errors.Is(refusal, cloud.ErrNotFound) {
		return false, nil
	}
	backup, err := ifExists(s.cloud.GetBackup(ctx, id))
	switch {
	case err != nil:
		return false, unfinished(errors.Join(refusal, err))
	case backup == nil:
		return false, nil
	case backup.Status == cloud.BackupDeleting:
		return false, s.waitBackupGone(ctx, id)
	case backup.Status == cloud.BackupErrorDeleting:
		return false, fmt.Errorf("backup %s has status error_deleting: %w: %s", id, ErrState, cloud.Fault{Text: backup.FailReason})
	case noAnswer(refusal):
		return false, unfinished(refusal)
	case backup.Status == cloud.BackupRestoring:
		return false, fmt.Errorf("backup %s has status %s: %w", id, backup.Status, unfinished(refusal))
	case errors.Is(refusal, cloud.ErrConflict):
		return true, unfinished(refusal)
	case backup.HasDependents:
		return false, fmt.Errorf("backup %s (%s): %w: incremental backups of volume %s build on it, delete those first: %w",
			id, backup.Name, ErrSnapshotInUse, backup.VolumeID, refusal)
	}
	return false, fmt.Errorf("backup %s, status %s: %w: %w", id, backup.Status, ErrState, refusal)
}

// waitBackupGone waits until a backup that is being deleted does not exist any
// more.
func (s *Service) waitBackupGone(ctx context.Context, id string) error {
	now, err := wait(ctx, s, s.backups, id, "delete backup", untilDeleted(cloud.BackupDeleting, cloud.BackupErrorDeleting, 3,
		func(now *cloud.Backup) cloud.BackupStatus { return now.Status }))
	switch {
	case err != nil:
		return fmt.Errorf("waiting for backup %s to be gone: %w", id, unfinished(err))
	case now == nil:
		return nil
	}
	return fmt.Errorf("backup %s has status %s after it was deleted: %w: %s", id, now.Status, ErrState, cloud.Fault{Text: now.FailReason})
}

// fromBackup translates a backup. Its own size is unknown while it is made.
func fromBackup(b *cloud.Backup, sizeGiB int64) *Snapshot {
	return &Snapshot{
		ID: b.ID, VolumeID: b.VolumeID, SizeGiB: max(b.SizeGiB, sizeGiB), CreatedAt: b.CreatedAt,
		Ready: b.Status == cloud.BackupAvailable || b.Status == cloud.BackupRestoring, Backup: true,
	}
}
