package volumes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// ModifyRequest says what is to change of a volume.
type ModifyRequest struct {
	// Type is the name or id of the new type; empty leaves it as it is.
	Type string
	// Migrate allows Cinder to copy the volume to another back end for it.
	Migrate bool
	// Metadata is added to the volume's, replacing values of the same keys.
	Metadata map[string]string
}

// Modify returns when the volume is as it is asked for: the type first, then
// the metadata. It returns ErrKeptType when Cinder gave the change of type up,
// and cloud.ErrInvalid for what Cinder refuses; nothing has changed then. What
// goes wrong after something has changed is ErrUnfinished or ErrState.
func (s *Service) Modify(ctx context.Context, id string, req ModifyRequest) error {
	id = plain(id)
	if err := exists("volume", id); err != nil {
		return err
	}
	if err := CheckMetadata(req.Metadata); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, "volume", id)
	if err != nil {
		return err
	}
	defer unlock()
	if req.Type != "" {
		if err := s.retype(ctx, id, req); err != nil {
			return err
		}
	}
	if len(req.Metadata) == 0 {
		if req.Type != "" {
			return nil
		}
		_, err := s.cloud.GetVolume(ctx, id)
		return err
	}
	return s.setMetadata(ctx, id, req)
}

// setMetadata adds to the metadata of a volume, which can be repeated.
func (s *Service) setMetadata(ctx context.Context, id string, req ModifyRequest) error {
	err := s.cloud.SetVolumeMetadata(ctx, id, req.Metadata)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cloud.ErrInvalid) && req.Type != "":
		return fmt.Errorf("volume %s has type %s now, but not the metadata: %w: %s", id, req.Type, ErrState, err.Error())
	case cloud.Uncertain(err):
		return unfinished(err)
	}
	return fmt.Errorf("volume %s: %w", id, err)
}

// retype changes the type of a volume, unless it has that type already.
func (s *Service) retype(ctx context.Context, id string, req ModifyRequest) error {
	kind, err := s.typeNamed(ctx, req.Type)
	if err != nil {
		return err
	}
	name := kind.name
	for attempts := (backoff{}); ; {
		err := s.cloud.RetypeVolume(ctx, id, name, req.Migrate)
		switch {
		case err == nil:
			log(ctx, id).Info("change of type accepted", zap.String("type", name), zap.Bool("migrate", req.Migrate))
			return s.retyped(ctx, id, name, req.Migrate)
		case ended(ctx, err):
			return over(ctx, err)
		case !undecided(err):
			return fmt.Errorf("changing volume %s to type %s: %w", id, name, err)
		}
		again, why := s.notRetyped(ctx, id, name, err)
		if !again {
			return why
		}
		if err := attempts.wait(ctx); err != nil {
			return fmt.Errorf("%w: %w", err, why)
		}
	}
}

// notRetyped reads a volume whose change of type was refused, or whose answer
// was lost. again tells that it is worth another try.
func (s *Service) notRetyped(ctx context.Context, id, name string, refusal error) (again bool, err error) {
	v, err := s.cloud.GetVolume(ctx, id)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return false, fmt.Errorf("changing the type of volume %s: %w", id, err)
	case err != nil:
		return false, unfinished(errors.Join(refusal, err))
	case v.Status.Transitional():
		v, err = s.waitVolume(ctx, id, retyping(v.Status), settled)
		switch {
		case err != nil:
			return false, fmt.Errorf("volume %s: %w", id, unfinished(err))
		case v != nil && alike(v.Type, name):
			return false, nil
		}
		return v != nil, fmt.Errorf("volume %s was busy: %w", id, unfinished(refusal))
	case alike(v.Type, name):
		return false, nil
	case cloud.Uncertain(refusal), errors.Is(refusal, cloud.ErrUnavailable):
		return false, unfinished(refusal)
	case errors.Is(refusal, cloud.ErrNotFound):
		// The volume exists, so it is the type.
		return false, fmt.Errorf("changing volume %s from type %s: %w: %s", id, v.Type, cloud.ErrInvalid, refusal.Error())
	case strings.HasPrefix(string(v.Status), "error"):
		return false, fmt.Errorf("volume %s has status %s: %w: %w", id, v.Status, ErrState, refusal)
	case errors.Is(refusal, cloud.ErrConflict):
		return true, unfinished(refusal)
	}
	return false, fmt.Errorf("changing volume %s from type %s to %s: %w", id, v.Type, name, refusal)
}

// retyped waits until an accepted change of type is over and looks at what came
// of it: Cinder gives up in silence, and the volume has its old type then.
func (s *Service) retyped(ctx context.Context, id, name string, migrate bool) error {
	v, err := s.waitVolume(ctx, id, "retype volume", settled)
	switch {
	case err != nil:
		return fmt.Errorf("waiting for volume %s to become one of type %s: %w", id, name, unfinished(err))
	case v == nil:
		return fmt.Errorf("volume %s disappeared while its type was changed: %w", id, ErrUnfinished)
	case alike(v.Type, name):
		return nil
	}
	fault, err := s.cloud.VolumeFault(ctx, id)
	if err != nil {
		return unfinished(err)
	}
	if strings.HasPrefix(string(v.Status), "error") {
		return fmt.Errorf("volume %s has status %s after its type was to be changed: %w: %s", id, v.Status, ErrState, fault)
	}
	advice := "see the logs of cinder-volume"
	if !migrate {
		advice = "if type " + name + " is served by another back end, the volume has to be migrated: allow it with the policy on-demand"
	}
	return fmt.Errorf("volume %s still has type %s: %w to %s: %s; %s", id, v.Type, ErrKeptType, name, fault, advice)
}

// retyping names the operation that a status belongs to, for the watcher.
func retyping(status cloud.VolumeStatus) string {
	if status == cloud.VolumeRetyping {
		return "retype volume"
	}
	return settling(status)
}
