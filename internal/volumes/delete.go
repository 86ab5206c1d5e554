package volumes

import (
	"context"
	"errors"
	"fmt"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// How a volume is deleted: Cinder is asked, once, and waited for. When it refuses, or its
// answer is lost, the volume is read, and the first line that fits counts:
//
//	volume in Cinder            what follows
//	gone                        done
//	deleting                    waited for
//	error_deleting              ErrState
//	any, and no answer or 5xx   ErrUnfinished
//	reserved, attaching         waited for, and a stale attachment removed; once more
//	creating, extending, …      waited for; once more
//	attached                    ErrAttached
//	with snapshots              ErrHasSnapshots
//	any, and busy               once more
//	other                       ErrState

// Delete returns when the volume is gone. It returns ErrAttached and
// ErrHasSnapshots for a volume that Cinder keeps, and ErrState when Cinder
// failed to delete it.
func (s *Service) Delete(ctx context.Context, id string) error {
	id = canonicalID(id)
	if !isID(id) {
		return nil
	}
	unlock, err := s.lock(ctx, "volume", id)
	if err != nil {
		return err
	}
	defer unlock()
	return s.untilGone(ctx, id)
}

// untilGone deletes a volume and waits until it is gone.
func (s *Service) untilGone(ctx context.Context, id string) (err error) {
	ctx, end := s.operation(ctx, volumeDelete, id, "")
	defer func() { err = end(err) }()
	return change(ctx,
		func() error { return s.cloud.DeleteVolume(ctx, id) },
		func() error { return s.waitGone(ctx, id) },
		func(refusal error) (bool, error) { return s.notDeleted(ctx, id, refusal) })
}

// notDeleted decides as the table says.
func (s *Service) notDeleted(ctx context.Context, id string, refusal error) (again bool, why error) {
	if errors.Is(refusal, cloud.ErrNotFound) {
		return false, nil
	}
	v, err := ifExists(s.cloud.GetVolume(ctx, id))
	switch {
	case err != nil:
		return false, unfinished(errors.Join(refusal, err))
	case v == nil:
		return false, nil
	case v.Status == cloud.VolumeDeleting:
		return false, s.waitGone(ctx, id)
	case v.Status == cloud.VolumeErrorDeleting:
		return false, s.failed(ctx, v)
	case noAnswer(refusal):
		return false, unfinished(refusal)
	case v.Status == cloud.VolumeReserved || v.Status == cloud.VolumeAttaching:
		return s.reservedNotDeleted(ctx, id)
	case v.Status.Transitional():
		now, err := s.waitVolume(ctx, id, "settle", notTransitional)
		if err != nil {
			return false, unfinished(fmt.Errorf("volume %s: %w", id, err))
		}
		return now != nil, fmt.Errorf("volume %s was busy: %w", id, unfinished(refusal))
	case len(v.Attachments) > 0:
		return false, fmt.Errorf("volume %s: %w, to server %s: detach it first", id, ErrAttached, v.Attachments[0].ServerID)
	}
	snapshots, err := everyPage(func(page cloud.Page) ([]cloud.Snapshot, string, error) {
		return s.cloud.ListSnapshots(ctx, cloud.SnapshotFilter{VolumeID: id}, page)
	})
	switch {
	case err != nil:
		return false, unfinished(errors.Join(refusal, err))
	case len(snapshots) > 0:
		return false, fmt.Errorf("volume %s: %w: %d, delete them first", id, ErrHasSnapshots, len(snapshots))
	case errors.Is(refusal, cloud.ErrConflict):
		return true, unfinished(refusal)
	}
	return false, fmt.Errorf("volume %s, status %s: %w: %w", id, v.Status, ErrState, refusal)
}

// waitGone waits until a volume that is being deleted does not exist any more.
func (s *Service) waitGone(ctx context.Context, id string) error {
	v, err := s.waitVolume(ctx, id, "delete volume", untilDeleted(cloud.VolumeDeleting, cloud.VolumeErrorDeleting, 3,
		func(v *cloud.Volume) cloud.VolumeStatus { return v.Status }))
	switch {
	case err != nil:
		return fmt.Errorf("waiting for volume %s to be gone: %w", id, unfinished(err))
	case v == nil:
		return nil
	case v.Status == cloud.VolumeErrorDeleting:
		return s.failed(ctx, v)
	}
	return fmt.Errorf("volume %s has status %s after it was deleted: %w", id, v.Status, ErrUnfinished)
}

// untilDeleted returns what is waited for after a deletion was accepted: the thing is gone, its
// deletion has failed, or it was seen in another status for patience times. Once may be a
// matter of timing.
func untilDeleted[T any, S comparable](deleting, failed S, patience int, status func(*T) S) func(*T) (bool, error) {
	seen := 0
	return func(thing *T) (bool, error) {
		if thing == nil || status(thing) == failed {
			return true, nil
		}
		if status(thing) != deleting {
			seen++
		}
		return seen >= patience, nil
	}
}

// failed returns the error of a volume in an error status that Cinder may explain.
func (s *Service) failed(ctx context.Context, v *cloud.Volume) error {
	fault, err := s.cloud.VolumeFault(ctx, v.ID)
	if err != nil {
		return unfinished(err)
	}
	return fmt.Errorf("volume %s has status %s: %w: %s", v.ID, v.Status, ErrState, fault)
}
