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
	// Tags returns more metadata; nil for none. It is called when a snapshot has to be made,
	// and not when one is found, as CreateRequest.Claim is. A backup gets the metadata of
	// its snapshot.
	Tags func(context.Context) (map[string]string, error)
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
	req.Name, req.VolumeID = StoredName(req.Name), canonicalID(req.VolumeID)
	var err error
	if req.Metadata, err = s.metadata(req.Metadata); err != nil {
		return nil, err
	}
	if err := checkID("volume", req.VolumeID); err != nil {
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
	snapshot, err := s.snapshotOf(ctx, req)
	if err != nil {
		return nil, err
	}
	return fromSnapshot(snapshot), nil
}

// snapshotOf finds or makes the snapshot of a request and waits for it.
func (s *Service) snapshotOf(ctx context.Context, req SnapshotRequest) (snapshot *cloud.Snapshot, err error) {
	ctx, end := s.operation(ctx, snapshotCreate, req.Name, "")
	defer func() { err = end(err) }()
	snapshot, err = s.earlierSnapshot(ctx, req)
	if err == nil && snapshot == nil {
		snapshot, err = s.postSnapshot(ctx, req)
	}
	if err != nil {
		return nil, err
	}
	return s.untilReady(ctx, snapshot)
}

// earlierSnapshot finds what an earlier attempt has made: of several the oldest, as
// with volumes. What is being deleted, or failed to be, is none of them.
func (s *Service) earlierSnapshot(ctx context.Context, req SnapshotRequest) (*cloud.Snapshot, error) {
	one, err := oldest(ctx, req.Name, func(page cloud.Page) ([]cloud.Snapshot, string, error) {
		return s.cloud.ListSnapshots(ctx, cloud.SnapshotFilter{Name: req.Name}, page)
	}, func(o *cloud.Snapshot) copied {
		abandoned := o.Status == cloud.SnapshotDeleting || o.Status == cloud.SnapshotErrorDeleting
		return copied{"snapshot", o.ID, o.VolumeID, o.CreatedAt, o.Name == req.Name && s.owned(o.Metadata) && !abandoned}
	})
	switch {
	case err != nil:
		return nil, unfinished(err)
	case one == nil:
		return nil, nil
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

// copied is what a snapshot and a backup have in common; ours tells that an earlier
// attempt may have made it, and nobody has given it up.
type copied struct {
	kind, id, volumeID string
	createdAt          time.Time
	ours               bool
}

// oldest returns the oldest of ours in a list, nil where there is none. The others are
// told in the log.
func oldest[T any](ctx context.Context, name string, list func(cloud.Page) ([]T, string, error), of func(*T) copied) (*T, error) {
	named, err := everyPage(list)
	if err != nil {
		return nil, fmt.Errorf("looking for an earlier snapshot or backup %s: %w", name, err)
	}
	named = slices.DeleteFunc(named, func(one T) bool { return !of(&one).ours })
	if len(named) == 0 {
		return nil, nil
	}
	slices.SortFunc(named, func(a, b T) int {
		return cmp.Or(of(&a).createdAt.Compare(of(&b).createdAt), strings.Compare(of(&a).id, of(&b).id))
	})
	for i := range named[1:] {
		one := of(&named[i+1])
		logging.From(ctx).Warn("this cluster has two of one name: the older is used, remove the other: its volume can't be deleted while it has snapshots",
			zap.String("kind", one.kind), zap.String("used", of(&named[0]).id), zap.String("twin", one.id), zap.String("twinOf", one.volumeID))
	}
	return &named[0], nil
}

// postSnapshot asks for a snapshot of which is known that it does not exist.
func (s *Service) postSnapshot(ctx context.Context, req SnapshotRequest) (*cloud.Snapshot, error) {
	metadata := maps.Clone(req.Metadata)
	if req.Tags != nil {
		tags, err := req.Tags(ctx)
		if err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", req.Name, err)
		}
		maps.Copy(metadata, tags)
	}
	if req.Backup {
		metadata[temporaryKey] = req.Name
	}
	snapshot, err := s.cloud.CreateSnapshot(ctx, cloud.SnapshotRequest{
		VolumeID:    req.VolumeID,
		Name:        req.Name,
		Description: Description,
		Metadata:    metadata,
	})
	switch {
	case err == nil:
		logging.From(ctx).Info("snapshot accepted", zap.String("snapshotID", snapshot.ID))
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

// untilReady waits for a snapshot, but not longer than Options.SnapshotWait. Nobody is
// told the id of one that is still being made: whether it ever holds the volume's
// content is not known, and where it fails another takes its place.
func (s *Service) untilReady(ctx context.Context, snapshot *cloud.Snapshot) (*cloud.Snapshot, error) {
	witnessed := snapshot.Status == cloud.SnapshotCreating
	if witnessed {
		var now *cloud.Snapshot
		late, err := within(ctx, s.opts.SnapshotWait, func(ctx context.Context) (err error) {
			now, err = s.waitSnapshotMade(ctx, snapshot.ID)
			return err
		})
		switch {
		case late:
			return nil, fmt.Errorf("snapshot %s (%s) is still being made after %s: %w", snapshot.ID, snapshot.Name, s.opts.SnapshotWait, ErrUnfinished)
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

// waitSnapshotMade waits until a snapshot is not being made any more; it is nil where it
// does not exist.
func (s *Service) waitSnapshotMade(ctx context.Context, id string) (*cloud.Snapshot, error) {
	return wait(ctx, s, s.snaps, id, "create snapshot", func(now *cloud.Snapshot) (bool, error) {
		return now == nil || now.Status != cloud.SnapshotCreating, nil
	})
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
		ID: s.ID, VolumeID: s.VolumeID, SizeGiB: s.SizeGiB, CreatedAt: s.CreatedAt,
		Ready: s.Status == cloud.SnapshotAvailable,
	}
}

// DeleteSnapshot returns when the snapshot, or the backup, is gone. It returns
// ErrSnapshotInUse when volumes depend on it, and ErrState when Cinder failed
// to delete it.
func (s *Service) DeleteSnapshot(ctx context.Context, id string) error {
	id = canonicalID(id)
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
	ctx, end := s.operation(ctx, snapshotDelete, id, "")
	defer func() { err = end(err) }()
	found = true
	err = change(ctx, func() error {
		return s.cloud.DeleteSnapshot(ctx, id)
	}, func() error {
		return s.waitSnapshotGone(ctx, id)
	}, func(refusal error) (again bool, why error) {
		var snapshot *cloud.Snapshot
		if !errors.Is(refusal, cloud.ErrNotFound) {
			if snapshot, err = ifExists(s.cloud.GetSnapshot(ctx, id)); err != nil {
				return false, unfinished(errors.Join(refusal, err))
			}
		}
		if found = snapshot != nil; !found {
			return false, nil
		}
		return s.snapshotNotDeleted(ctx, snapshot, refusal)
	})
	return found, err
}

// snapshotNotDeleted decides by the snapshot, when Cinder has refused to delete it or
// has given no answer.
func (s *Service) snapshotNotDeleted(ctx context.Context, snapshot *cloud.Snapshot, refusal error) (again bool, why error) {
	id := snapshot.ID
	switch {
	case snapshot.Status == cloud.SnapshotDeleting:
		return false, s.waitSnapshotGone(ctx, id)
	case snapshot.Status == cloud.SnapshotErrorDeleting:
		return false, s.snapshotKept(ctx, snapshot)
	case noAnswer(refusal):
		return false, unfinished(refusal)
	case snapshot.Status == cloud.SnapshotCreating:
		if _, err := s.waitSnapshotMade(ctx, id); err != nil {
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
	now, err := wait(ctx, s, s.snaps, id, "delete snapshot", untilDeleted(cloud.SnapshotDeleting, cloud.SnapshotErrorDeleting, 2,
		func(now *cloud.Snapshot) cloud.SnapshotStatus { return now.Status }))
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
