package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// maxCorrections bounds how often one call puts right what Cinder refuses, besides the
// zones: a source may be a backup, larger than the request, and elsewhere.
const maxCorrections = 4

// post asks Cinder for the volume of a plan. The source is looked at only when Cinder
// refuses: a snapshot handle may turn out to be a backup's, a source larger than the
// request or in another zone. What it finds is put right in the plan, and Cinder is
// asked again.
func (s *Service) post(ctx context.Context, p *plan) (attempt, error) {
	if p.impossible != nil {
		return attempt{}, fmt.Errorf("volume %s: %w", p.Name, p.impossible)
	}
	if err := s.addNeighbours(ctx, p); err != nil {
		return attempt{}, fmt.Errorf("volume %s: %w", p.Name, err)
	}
	for corrections := 0; corrections < maxCorrections; {
		p.ask.Zone = p.zones[0]
		volume, err := s.cloud.CreateVolume(ctx, p.ask)
		switch {
		case err == nil:
			log(ctx, volume.ID).Info("volume accepted", zap.Int64("sizeGiB", p.ask.SizeGiB))
			return attempt{volume: volume, mine: true, seen: true}, nil
		case cloud.Uncertain(err):
			return s.afterLostAnswer(ctx, p.Name, err)
		case errors.Is(err, cloud.ErrSourceZone):
			err = s.followSource(ctx, p, err)
		case errors.Is(err, cloud.ErrZone):
			err = p.elsewhere(err.Error())
		case errors.Is(err, cloud.ErrNotFound), errors.Is(err, cloud.ErrInvalid):
			corrections++
			err = s.correctSource(ctx, p, err)
		}
		if err != nil {
			return attempt{}, err
		}
	}
	return attempt{}, fmt.Errorf("volume %s: %w: Cinder keeps refusing it", p.Name, ErrUnfinished)
}

// afterLostAnswer finds the volume that a request has made whose answer is
// unknown. Where there is none (yet), the request's error is the answer.
func (s *Service) afterLostAnswer(ctx context.Context, name string, lost error) (attempt, error) {
	at, err := s.find(ctx, name)
	if err != nil || at.volume == nil {
		return attempt{}, unfinished(errors.Join(lost, err))
	}
	return at, nil
}

// source is what a volume is made from.
type source struct {
	kind, id, status string
	sizeGiB          int64
	ready            bool
}

// broken reports whether the source will never be ready by itself.
func (f source) broken() bool {
	return strings.HasPrefix(f.status, "error") || f.status == string(cloud.VolumeDeleting)
}

// correctSource looks at the source of a refused request, and changes the plan as it
// is. Where there is nothing to change, the refusal is the answer.
func (s *Service) correctSource(ctx context.Context, p *plan, refusal error) error {
	from, err := s.source(ctx, p)
	if err != nil {
		return err
	}
	switch {
	case from.broken():
		return fmt.Errorf("%s %s has status %s, and can't be copied: %w", from.kind, from.id, from.status, ErrState)
	case from.kind != "" && !from.ready:
		return fmt.Errorf("%s %s has status %s: %w", from.kind, from.id, from.status, ErrUnfinished)
	case from.kind == "backup" && p.ask.BackupID == "":
		p.ask.SnapshotID, p.ask.BackupID = "", from.id
		p.ask.SizeGiB = max(p.ask.SizeGiB, from.sizeGiB)
	case from.sizeGiB > p.ask.SizeGiB:
		p.ask.SizeGiB = from.sizeGiB
	case errors.Is(refusal, cloud.ErrNotFound):
		// Not the source, so it is the type, or a volume of a hint.
		return fmt.Errorf("%w: %s", cloud.ErrInvalid, refusal.Error())
	default:
		return refusal
	}
	if p.LimitGiB > 0 && p.ask.SizeGiB > p.LimitGiB {
		return fmt.Errorf("%s %s has %d GiB: %w of %d GiB", from.kind, from.id, from.sizeGiB, ErrTooLarge, p.LimitGiB)
	}
	return nil
}

// source reads what a volume is to be made from; the zero value is nothing.
func (s *Service) source(ctx context.Context, p *plan) (source, error) {
	switch {
	case p.SourceVolumeID != "":
		v, err := s.cloud.GetVolume(ctx, p.SourceVolumeID)
		if err != nil {
			return source{}, fmt.Errorf("source volume %s: %w", p.SourceVolumeID, err)
		}
		ready := v.Status == cloud.VolumeAvailable || v.Status == cloud.VolumeInUse
		return source{"source volume", v.ID, string(v.Status), v.SizeGiB, ready}, nil
	case p.SnapshotID == "":
		return source{}, nil
	}
	snapshot, err := s.cloud.GetSnapshot(ctx, p.SnapshotID)
	if err == nil {
		return source{"snapshot", snapshot.ID, string(snapshot.Status), snapshot.SizeGiB, snapshot.Status == cloud.SnapshotAvailable}, nil
	}
	if !errors.Is(err, cloud.ErrNotFound) {
		return source{}, fmt.Errorf("snapshot %s: %w", p.SnapshotID, err)
	}
	backup, err := s.cloud.GetBackup(ctx, p.SnapshotID)
	if err != nil {
		return source{}, fmt.Errorf("snapshot or backup %s: %w", p.SnapshotID, err)
	}
	return source{"backup", backup.ID, string(backup.Status), backup.SizeGiB, backup.Status == cloud.BackupAvailable}, nil
}

// followSource asks for a copy in the zone of its source, which most clouds insist
// on (cloned_volume_same_az, on unless an operator switches it off). The scheduler
// doesn't know that when it chooses the node, and with it the zone, of the pod that a
// copy is for. Where the zone isn't among those that will do, the answer is that there
// is no room: the scheduler then chooses another node.
func (s *Service) followSource(ctx context.Context, p *plan, refusal error) error {
	if p.AnyZone {
		return p.elsewhere(refusal.Error())
	}
	if len(p.AcceptZones) == 0 {
		return refusal
	}
	from := p.SourceVolumeID
	if from == "" {
		snapshot, err := s.cloud.GetSnapshot(ctx, p.SnapshotID)
		if err != nil {
			return fmt.Errorf("snapshot %s: %w", p.SnapshotID, err)
		}
		from = snapshot.VolumeID
	}
	original, err := s.cloud.GetVolume(ctx, from)
	if err != nil {
		return fmt.Errorf("source volume %s: %w", from, err)
	}
	if !slices.Contains(p.zones[1:], original.Zone) {
		return fmt.Errorf("volume %s: its source, volume %s, is in availability zone %s, and copies have to be made there: %w in %s",
			p.Name, original.ID, original.Zone, ErrNoCapacity, strings.Join(p.AcceptZones, ", "))
	}
	p.zones = []string{original.Zone}
	return nil
}
