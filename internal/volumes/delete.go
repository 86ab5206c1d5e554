package volumes

import (
	"context"
	"errors"
	"fmt"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// Delete returns when the volume is gone. It returns ErrAttached and
// ErrHasSnapshots for a volume that Cinder keeps, and ErrState when Cinder
// failed to delete it.
func (s *Service) Delete(ctx context.Context, id string) error {
	id = plain(id)
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
func (s *Service) untilGone(ctx context.Context, id string) error {
	for attempts := (backoff{}); ; {
		err := s.cloud.DeleteVolume(ctx, id)
		switch {
		case err == nil:
			return s.waitGone(ctx, id)
		case errors.Is(err, cloud.ErrNotFound):
			return nil
		case !undecided(err):
			return err
		}
		again, why := s.notDeleted(ctx, id, err)
		if !again {
			return why
		}
		if err := attempts.wait(ctx); err != nil {
			return fmt.Errorf("%w: %w", err, why)
		}
	}
}

// notDeleted reads a volume whose deletion was refused, or whose answer was
// lost. It returns what came of it, or true to try again and the reason why
// that was necessary.
func (s *Service) notDeleted(ctx context.Context, id string, refusal error) (again bool, why error) {
	v, err := s.cloud.GetVolume(ctx, id)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return false, nil
	case err != nil:
		return false, unfinished(errors.Join(refusal, err))
	case v.Status == cloud.VolumeDeleting:
		return false, s.waitGone(ctx, id)
	case v.Status == cloud.VolumeErrorDeleting:
		return false, s.deletionFailed(ctx, id)
	case cloud.Uncertain(refusal) || errors.Is(refusal, cloud.ErrUnavailable):
		return false, unfinished(refusal)
	case v.Status == cloud.VolumeReserved || v.Status == cloud.VolumeAttaching:
		return s.reservedNotDeleted(ctx, id)
	case v.Status.Transitional():
		v, err = s.waitVolume(ctx, id, "settle", settled)
		if err != nil {
			return false, unfinished(fmt.Errorf("volume %s: %w", id, err))
		}
		return v != nil, fmt.Errorf("volume %s was busy: %w", id, unfinished(refusal))
	case len(v.Attachments) > 0:
		return false, fmt.Errorf("volume %s: %w, to server %s: detach it first", id, ErrAttached, v.Attachments[0].ServerID)
	}
	if n, err := s.countSnapshots(ctx, id); err != nil {
		return false, unfinished(errors.Join(refusal, err))
	} else if n > 0 {
		return false, fmt.Errorf("volume %s: %w: %d, delete them first", id, ErrHasSnapshots, n)
	}
	if errors.Is(refusal, cloud.ErrConflict) {
		return true, unfinished(refusal)
	}
	return false, fmt.Errorf("volume %s, status %s: %w: %w", id, v.Status, ErrState, refusal)
}

// waitGone waits until a volume that is being deleted does not exist any more.
func (s *Service) waitGone(ctx context.Context, id string) error {
	kept := 0
	v, err := s.waitVolume(ctx, id, "delete volume", func(v *cloud.Volume) (bool, error) {
		switch {
		case v == nil, v.Status == cloud.VolumeErrorDeleting:
			return true, nil
		case v.Status == cloud.VolumeDeleting:
			return false, nil
		}
		// Cinder said "accepted" and shows something else: once may be a
		// matter of timing.
		kept++
		return kept > 2, nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("waiting for volume %s to be gone: %w", id, unfinished(err))
	case v == nil:
		return nil
	case v.Status == cloud.VolumeErrorDeleting:
		return s.deletionFailed(ctx, id)
	}
	return fmt.Errorf("volume %s has status %s after it was deleted: %w", id, v.Status, ErrUnfinished)
}

func (s *Service) deletionFailed(ctx context.Context, id string) error {
	fault, err := s.cloud.VolumeFault(ctx, id)
	if err != nil {
		return unfinished(err)
	}
	return fmt.Errorf("volume %s has status error_deleting: %w: %s", id, ErrState, fault)
}

func (s *Service) countSnapshots(ctx context.Context, volumeID string) (int, error) {
	n, page := 0, cloud.Page{}
	for {
		snapshots, next, err := s.cloud.ListSnapshots(ctx, cloud.SnapshotFilter{VolumeID: volumeID}, page)
		if err != nil {
			return n, err
		}
		n += len(snapshots)
		if next == "" {
			return n, nil
		}
		page.Marker = next
	}
}

// settled is satisfied when nothing is going on with a volume, or it is gone.
func settled(v *cloud.Volume) (bool, error) {
	return v == nil || !v.Status.Transitional(), nil
}
