package volumes

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// CreateRequest asks for a volume.
type CreateRequest struct {
	// Name identifies the request: repeated with the same name, it finds the
	// volume that it made before. At most 255 characters.
	Name string
	// SizeGiB is at least 1. A volume from a source gets the source's size
	// where that is larger, unless LimitGiB (0: none) forbids it.
	SizeGiB, LimitGiB int64
	// Type is the name or id of a volume type, Zone the name of one of
	// Cinder's zones or its label (see zone.Label). Empty: Cinder's defaults.
	Type, Zone string
	// AcceptZones are labels of zones in which the volume is as good, the best
	// first; empty: only in Zone. They count where Cinder doesn't have Zone, for
	// copies of what is in another zone, and for volumes of an earlier attempt.
	AcceptZones []string
	// AnyZone tells that Zone is a wish: where Cinder does not know it, its
	// default will do.
	AnyZone bool
	// SnapshotID is the id of a snapshot or of a backup, SourceVolumeID that
	// of a volume to be cloned. At most one is set.
	SnapshotID, SourceVolumeID string
	// Multiattach tells that the volume has to serve several servers.
	Multiattach bool
	// Metadata is recorded with the volume, besides the cluster's tag.
	Metadata map[string]string
	// Affinity returns what the volume is to be near, or far from; nil where
	// that is nothing. It is called when a volume has to be made, and not when
	// one is found: a repetition gets the answer of the first call, whatever
	// has changed meanwhile.
	Affinity func(context.Context) (Affinity, error)
}

// Create returns a volume that is usable: it waits until Cinder says so, or ctx
// ends. It returns ErrExists when the name is taken by a volume that differs,
// ErrNoCapacity or cloud.ErrQuota when another zone or type might do,
// ErrTooLarge when the source is larger than the limit, cloud.ErrNotFound when
// the source does not exist. After any other error the same call finds what
// became of this one.
func (s *Service) Create(ctx context.Context, req CreateRequest) (*cloud.Volume, error) {
	req.SnapshotID, req.SourceVolumeID = plain(req.SnapshotID), plain(req.SourceVolumeID)
	if err := req.check(); err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx, "volume name", req.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	volume, err := s.earlier(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	if volume == nil {
		return s.createNew(ctx, req)
	}
	removed, err := s.removeFailed(ctx, volume)
	if err == nil && !removed {
		removed, err = s.removeMisplaced(ctx, req, volume)
	}
	switch {
	case err != nil:
		return nil, err
	case removed:
		return s.createNew(ctx, req)
	}
	if err := req.differs(volume); err != nil {
		return nil, err
	}
	if volume, err = s.untilUsable(ctx, req, volume); err != nil {
		return nil, err
	}
	// What it was restored from may be known only now.
	if err := req.differs(volume); err != nil {
		return nil, err
	}
	return volume, nil
}

// createNew makes a volume of which is known that it does not exist yet.
func (s *Service) createNew(ctx context.Context, req CreateRequest) (*cloud.Volume, error) {
	near, err := s.neighbours(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", req.Name, err)
	}
	for again := true; ; again = false {
		volume, err := s.accepted(ctx, &req, near)
		if err != nil {
			return nil, err
		}
		if req.misplaced(volume) {
			if err := s.takeBack(ctx, &req, volume, again); err != nil {
				return nil, err
			}
			continue
		}
		if req.Multiattach && !volume.Multiattach {
			return nil, s.refuse(ctx, volume)
		}
		return s.untilUsable(ctx, req, volume)
	}
}

// accepted asks for a volume and returns it as Cinder has accepted it.
func (s *Service) accepted(ctx context.Context, req *CreateRequest, near neighbours) (*cloud.Volume, error) {
	volume, err := s.post(ctx, req, near)
	if err != nil && cloud.Uncertain(err) {
		volume, err = s.afterLostAnswer(ctx, req.Name, err)
	}
	if err != nil {
		return nil, err
	}
	log(ctx, volume.ID).Info("volume accepted", zap.String("name", req.Name), zap.Int64("sizeGiB", req.SizeGiB))
	return volume, nil
}

// afterLostAnswer finds the volume that a request has made whose answer is
// unknown. Where there is none (yet), the request's error is the answer.
func (s *Service) afterLostAnswer(ctx context.Context, name string, lost error) (*cloud.Volume, error) {
	volume, err := s.earlier(ctx, name)
	if err != nil {
		return nil, unfinished(errors.Join(lost, err))
	}
	if volume == nil {
		return nil, unfinished(lost)
	}
	return volume, nil
}

// refuse takes back a volume that this very call has made and nobody else has
// seen, because its type cannot do what was asked for.
func (s *Service) refuse(ctx context.Context, volume *cloud.Volume) error {
	refused := fmt.Errorf("volume type %q: %w", volume.Type, ErrNotMultiattach)
	if err := s.withdraw(ctx, volume); err != nil {
		return unfinished(fmt.Errorf("%w; removing volume %s again: %w", refused, volume.ID, err))
	}
	return refused
}

// untilUsable waits until an accepted volume is usable.
func (s *Service) untilUsable(ctx context.Context, req CreateRequest, volume *cloud.Volume) (*cloud.Volume, error) {
	// A backup may be restored over what had data before.
	creating := beingMade(volume) && volume.Status != cloud.VolumeRestoringBackup
	if beingMade(volume) {
		var err error
		volume, err = s.waitVolume(ctx, volume.ID, req.kind(), func(v *cloud.Volume) (bool, error) {
			return v == nil || !beingMade(v), nil
		})
		if err != nil {
			return nil, fmt.Errorf("waiting for volume %s: %w", req.Name, unfinished(err))
		}
		if volume == nil {
			return nil, fmt.Errorf("volume %s: %w: it disappeared while it was created", req.Name, ErrUnfinished)
		}
	}
	switch volume.Status {
	case cloud.VolumeError:
		return nil, s.failed(ctx, volume, creating)
	case cloud.VolumeDeleting, cloud.VolumeErrorDeleting:
		return nil, fmt.Errorf("volume %s (%s) is being deleted, status %s: %w", volume.ID, req.Name, volume.Status, ErrUnfinished)
	case cloud.VolumeErrorExtending, cloud.VolumeErrorRestoring:
		return nil, fmt.Errorf("volume %s (%s) has status %s: %w", volume.ID, req.Name, volume.Status, ErrUnfinished)
	}
	return volume, nil
}

// beingMade reports whether Cinder is still at work on a new volume.
func beingMade(v *cloud.Volume) bool {
	switch v.Status {
	case cloud.VolumeCreating, cloud.VolumeDownloading, cloud.VolumeRestoringBackup:
		return true
	}
	return false
}

// failed returns why a volume could not be created. What failed before the eyes
// of this call never was usable: it is removed, so that the next attempt is free.
func (s *Service) failed(ctx context.Context, volume *cloud.Volume, witnessed bool) error {
	fault, err := s.cloud.VolumeFault(ctx, volume.ID)
	if err != nil {
		return unfinished(fmt.Errorf("volume %s has status error, reading the cause: %w", volume.ID, err))
	}
	cause := fmt.Errorf("creating volume %s (%s) failed: %s", volume.ID, volume.Name, orUnknown(fault))
	if len(volume.Attachments) > 0 || !s.owned(volume.Metadata) || !witnessed && !creationFailed(fault) {
		return fmt.Errorf("%w: it is kept, because it may have been usable once; remove it by hand if it was not: %w", cause, ErrUnfinished)
	}
	if err := s.untilGone(ctx, volume.ID); err != nil {
		return unfinished(fmt.Errorf("%w; removing it: %w", cause, err))
	}
	if noCapacity(fault) {
		return fmt.Errorf("%w: %w", cause, ErrNoCapacity)
	}
	return fmt.Errorf("%w: %w", cause, ErrUnfinished)
}

// removeFailed removes an earlier attempt of which Cinder says that it could
// not be created, and reports whether it did.
func (s *Service) removeFailed(ctx context.Context, volume *cloud.Volume) (bool, error) {
	if volume.Status != cloud.VolumeError || len(volume.Attachments) > 0 {
		return false, nil
	}
	fault, err := s.cloud.VolumeFault(ctx, volume.ID)
	if err != nil {
		return false, unfinished(err)
	}
	if !creationFailed(fault) {
		return false, nil
	}
	log(ctx, volume.ID).Info("removing a volume that could not be created", zap.String("name", volume.Name), zap.String("cause", fault))
	if err := s.untilGone(ctx, volume.ID); err != nil {
		return false, unfinished(err)
	}
	return true, nil
}

// check refuses what Cinder could not have made.
func (r CreateRequest) check() error {
	if id := r.SourceVolumeID; id != "" {
		return exists("source volume", id)
	}
	if id := r.SnapshotID; id != "" {
		return exists("snapshot", id)
	}
	return nil
}

// kind names the operation for the watcher: copies take longer.
func (r CreateRequest) kind() string {
	switch {
	case r.SnapshotID != "":
		return "create volume from snapshot"
	case r.SourceVolumeID != "":
		return "create volume from volume"
	}
	return "create volume"
}

func orUnknown(fault string) string {
	if fault == "" {
		return "Cinder gives no cause"
	}
	return fault
}
