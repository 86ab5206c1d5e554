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
func (s *Service) Extend(ctx context.Context, id string, sizeGiB int64) (int64, error) {
	id = plain(id)
	if err := exists("volume", id); err != nil {
		return 0, err
	}
	unlock, err := s.lock(ctx, "volume", id)
	if err != nil {
		return 0, err
	}
	defer unlock()
	// That it is attached is assumed: a cloud that can grow attached volumes
	// grows others by the same request, and saves reading the volume first.
	inUse := true
	for attempts := (backoff{}); ; {
		err := s.cloud.ExtendVolume(ctx, id, sizeGiB, inUse)
		switch {
		case err == nil:
			return s.grown(ctx, id, sizeGiB)
		case ended(ctx, err):
			return 0, over(ctx, err)
		case !undecided(err) && !errors.Is(err, cloud.ErrUnsupported):
			return 0, fmt.Errorf("extending volume %s: %w", id, err)
		}
		v, again, why := s.notExtended(ctx, id, sizeGiB, inUse, err)
		if !again {
			return sizeOf(v), why
		}
		inUse = inUse && len(v.Attachments) > 0
		if err := attempts.wait(ctx); err != nil {
			return 0, fmt.Errorf("%w: %w", err, why)
		}
	}
}

// notExtended reads a volume that Cinder refused to grow, or whose answer was
// lost. again tells that it is worth another try.
func (s *Service) notExtended(ctx context.Context, id string, sizeGiB int64, inUse bool, refusal error) (v *cloud.Volume, again bool, err error) {
	v, err = s.cloud.GetVolume(ctx, id)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return nil, false, fmt.Errorf("extending volume %s: %w", id, err)
	case err != nil:
		return nil, false, unfinished(errors.Join(refusal, err))
	case v.Status == cloud.VolumeErrorExtending:
		return nil, false, s.extensionFailed(ctx, id)
	case v.SizeGiB >= sizeGiB && !v.Status.Transitional():
		return v, false, nil
	case v.Status.Transitional():
		v, err = s.waitVolume(ctx, id, settling(v.Status), settled)
		if err != nil {
			return nil, false, fmt.Errorf("volume %s: %w", id, unfinished(err))
		}
		return s.settledSize(ctx, v, id, sizeGiB, refusal)
	case errors.Is(refusal, cloud.ErrUnsupported) && inUse && len(v.Attachments) == 0:
		return v, true, refusal
	case errors.Is(refusal, cloud.ErrUnsupported):
		return nil, false, fmt.Errorf("volume %s is attached: %w", id, refusal)
	case errors.Is(refusal, cloud.ErrConflict):
		return v, true, refusal
	case cloud.Uncertain(refusal), errors.Is(refusal, cloud.ErrUnavailable), errors.Is(refusal, cloud.ErrNotFound):
		return nil, false, unfinished(refusal)
	}
	return nil, false, fmt.Errorf("extending volume %s, status %s, from %d to %d GiB: %w: %w", id, v.Status, v.SizeGiB, sizeGiB, ErrState, refusal)
}

// settledSize judges a volume that was busy when it was to be grown.
func (s *Service) settledSize(ctx context.Context, v *cloud.Volume, id string, sizeGiB int64, refusal error) (*cloud.Volume, bool, error) {
	switch {
	case v == nil:
		return nil, false, fmt.Errorf("extending volume %s: %w", id, cloud.ErrNotFound)
	case v.Status == cloud.VolumeErrorExtending:
		return nil, false, s.extensionFailed(ctx, id)
	case v.SizeGiB >= sizeGiB:
		return v, false, nil
	}
	return v, true, fmt.Errorf("volume %s was busy: %w", id, unfinished(refusal))
}

// grown waits until an accepted extension is done.
func (s *Service) grown(ctx context.Context, id string, sizeGiB int64) (int64, error) {
	stalled := 0
	v, err := s.waitVolume(ctx, id, "extend volume", func(v *cloud.Volume) (bool, error) {
		switch {
		case v == nil, v.Status == cloud.VolumeErrorExtending:
			return true, nil
		case v.Status.Transitional():
			return false, nil
		case v.SizeGiB >= sizeGiB:
			return true, nil
		}
		stalled++
		return stalled > 2, nil
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("waiting for volume %s to grow: %w", id, unfinished(err))
	case v == nil:
		return 0, fmt.Errorf("volume %s disappeared while it was extended: %w", id, ErrUnfinished)
	case v.Status == cloud.VolumeErrorExtending:
		return 0, s.extensionFailed(ctx, id)
	case v.SizeGiB < sizeGiB:
		return 0, fmt.Errorf("volume %s has status %s and still %d GiB: %w", id, v.Status, v.SizeGiB, ErrUnfinished)
	}
	return v.SizeGiB, nil
}

func (s *Service) extensionFailed(ctx context.Context, id string) error {
	fault, err := s.cloud.VolumeFault(ctx, id)
	if err != nil {
		return unfinished(err)
	}
	return fmt.Errorf("volume %s has status error_extending: %w: %s", id, ErrState, fault)
}

func sizeOf(v *cloud.Volume) int64 {
	if v == nil {
		return 0
	}
	return v.SizeGiB
}
