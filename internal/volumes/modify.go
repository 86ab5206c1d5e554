package volumes

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
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
	id = canonicalID(id)
	if err := checkID("volume", id); err != nil {
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
func (s *Service) retype(ctx context.Context, id string, req ModifyRequest) (err error) {
	ctx, end := s.operation(ctx, volumeRetype, id, "")
	defer func() { err = end(err) }()
	kind, err := s.typeNamed(ctx, req.Type)
	if err != nil {
		return err
	}
	name := kind.name
	return change(ctx, func() error {
		return s.cloud.RetypeVolume(ctx, id, name, req.Migrate)
	}, func() error {
		logging.From(ctx).Info("change of type accepted", zap.String("type", name), zap.Bool("migrate", req.Migrate))
		return s.untilRetyped(ctx, id, name, req.Migrate)
	}, func(refusal error) (bool, error) {
		return s.notRetyped(ctx, id, name, refusal)
	})
}

// notRetyped reads a volume whose change of type was refused, or whose answer
// was lost. again tells that it is worth another try.
func (s *Service) notRetyped(ctx context.Context, id, name string, refusal error) (again bool, err error) {
	v, busy, err := s.settledVolume(ctx, id, refusal)
	switch {
	case err != nil:
		return false, err
	case v == nil:
		return false, fmt.Errorf("changing the type of volume %s: %w", id, cloud.ErrNotFound)
	case alike(v.Type, name):
		return false, nil
	case busy:
		return true, fmt.Errorf("volume %s was busy: %w", id, unfinished(refusal))
	case noAnswer(refusal):
		return false, unfinished(refusal)
	case errors.Is(refusal, cloud.ErrNotFound):
		// The volume exists, so it is the type.
		return false, fmt.Errorf("changing volume %s from type %s: %w: %s", id, v.Type, cloud.ErrInvalid, refusal.Error())
	case needsOperator(v.Status):
		return false, fmt.Errorf("volume %s has status %s: %w: %w", id, v.Status, ErrState, refusal)
	case errors.Is(refusal, cloud.ErrConflict):
		return true, unfinished(refusal)
	}
	return false, fmt.Errorf("changing volume %s from type %s to %s: %w", id, v.Type, name, refusal)
}

// untilRetyped waits until an accepted change of type is over and looks at what came
// of it: Cinder gives up in silence, and the volume has its old type then.
func (s *Service) untilRetyped(ctx context.Context, id, name string, migrate bool) error {
	v, err := s.waitVolume(ctx, id, "retype volume", notTransitional)
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
	if needsOperator(v.Status) {
		return fmt.Errorf("volume %s has status %s after its type was to be changed: %w: %s", id, v.Status, ErrState, fault)
	}
	advice := "see the logs of cinder-volume"
	if !migrate {
		advice = "if type " + name + " is served by another back end, the volume has to be migrated: allow it with the policy on-demand"
	}
	return fmt.Errorf("volume %s still has type %s: %w to %s: %s; %s", id, v.Type, ErrKeptType, name, fault, advice)
}
