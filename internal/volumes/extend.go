package volumes

import (
	"context"
	"errors"
	"fmt"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// Extend grows a volume to at least sizeGiB, attached or not, and returns the
// size that it has then. A volume that is as large already stays as it is: it
// is never made smaller. It returns ErrState, with Cinder's reason, when Cinder
// could not grow it, and cloud.ErrQuota when it may not.
func (s *Service) Extend(ctx context.Context, id string, sizeGiB int64) (size int64, err error) {
	id = canonicalID(id)
	if err := checkID("volume", id); err != nil {
		return 0, err
	}
	ctx, end := s.operation(ctx, volumeExtend, id, "")
	defer func() { err = end(err) }()
	unlock, err := s.lock(ctx, "volume", id)
	if err != nil {
		return 0, err
	}
	defer unlock()
	var tooOld error
	err = change(ctx, func() error {
		// A cloud that can grow attached volumes grows others by the same request,
		// which saves reading the volume first.
		err := s.cloud.ExtendVolume(ctx, id, sizeGiB, true)
		if errors.Is(err, cloud.ErrUnsupported) {
			tooOld = err
			err = s.cloud.ExtendVolume(ctx, id, sizeGiB, false)
		}
		return err
	}, func() error {
		size, err = s.untilGrown(ctx, id, sizeGiB)
		return err
	}, func(refusal error) (again bool, why error) {
		size, again, why = s.notExtended(ctx, id, sizeGiB, refusal, tooOld)
		return again, why
	})
	return size, err
}

// notExtended reads a volume that Cinder refused to grow, or whose answer was
// lost. again tells that it is worth another try.
func (s *Service) notExtended(ctx context.Context, id string, sizeGiB int64, refusal, tooOld error) (size int64, again bool, err error) {
	v, busy, err := s.settledVolume(ctx, id, refusal)
	switch {
	case err != nil:
		return 0, false, err
	case v == nil:
		return 0, false, fmt.Errorf("extending volume %s: %w", id, cloud.ErrNotFound)
	case v.Status == cloud.VolumeErrorExtending:
		return 0, false, s.failed(ctx, v)
	case v.SizeGiB >= sizeGiB:
		return v.SizeGiB, false, nil
	case busy:
		return 0, true, fmt.Errorf("volume %s was busy: %w", id, unfinished(refusal))
	case errors.Is(refusal, cloud.ErrConflict):
		return 0, true, refusal
	case noAnswer(refusal), errors.Is(refusal, cloud.ErrNotFound):
		return 0, false, unfinished(refusal)
	case tooOld != nil && len(v.Attachments) > 0:
		return 0, false, fmt.Errorf("volume %s is attached: %w", id, tooOld)
	}
	return 0, false, fmt.Errorf("extending volume %s, status %s, from %d to %d GiB: %w: %w", id, v.Status, v.SizeGiB, sizeGiB, ErrState, refusal)
}

// untilGrown waits until an accepted extension is done.
func (s *Service) untilGrown(ctx context.Context, id string, sizeGiB int64) (int64, error) {
	v, err := s.waitVolume(ctx, id, "extend volume", untilEnded(func(v *cloud.Volume) bool {
		return v.Status == cloud.VolumeErrorExtending || v.SizeGiB >= sizeGiB && !v.Status.Transitional()
	}, cloud.VolumeExtending))
	switch {
	case err != nil:
		return 0, fmt.Errorf("waiting for volume %s to grow: %w", id, unfinished(err))
	case v == nil:
		return 0, fmt.Errorf("volume %s disappeared while it was extended: %w", id, ErrUnfinished)
	case v.Status == cloud.VolumeErrorExtending:
		return 0, s.failed(ctx, v)
	case v.SizeGiB < sizeGiB:
		return 0, fmt.Errorf("volume %s has status %s and still %d GiB: %w", id, v.Status, v.SizeGiB, ErrUnfinished)
	}
	return v.SizeGiB, nil
}
