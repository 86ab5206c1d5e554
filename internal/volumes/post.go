package volumes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// post asks Cinder for the volume. It asks straight away and looks into the
// request only when Cinder refuses: a snapshot handle may turn out to be a
// backup's, a source larger than the request or in another zone, a zone a
// label. What it finds is put right in req, and Cinder is asked again, once for
// each.
func (s *Service) post(ctx context.Context, req *CreateRequest, near neighbours) (*cloud.Volume, error) {
	ask := cloud.VolumeRequest{
		Name:           req.Name,
		Description:    Description,
		SizeGiB:        req.SizeGiB,
		Type:           req.Type,
		Zone:           req.Zone,
		SnapshotID:     req.SnapshotID,
		SourceVolumeID: req.SourceVolumeID,
		Metadata:       near.record(s.tagged(req.Metadata)),
		SameHost:       near.same,
		DifferentHost:  near.different,
	}
	for range 4 {
		volume, err := s.cloud.CreateVolume(ctx, ask)
		if err == nil || cloud.Uncertain(err) ||
			!errors.Is(err, cloud.ErrNotFound) && !errors.Is(err, cloud.ErrInvalid) {
			req.SizeGiB, req.Zone = ask.SizeGiB, ask.Zone
			return volume, err
		}
		corrected, why := s.correct(ctx, req, &ask, err)
		if why != nil {
			return nil, why
		}
		if !corrected {
			return nil, err
		}
	}
	return nil, fmt.Errorf("volume %s: %w: Cinder keeps refusing it", req.Name, ErrUnfinished)
}

// correct puts right what Cinder refused with the error refusal, and reports
// whether there was anything; or returns what is wrong with the request.
func (s *Service) correct(ctx context.Context, req *CreateRequest, ask *cloud.VolumeRequest, refusal error) (bool, error) {
	if boundToSource(refusal) && !req.AnyZone {
		return s.followSource(ctx, req, ask)
	}
	corrected, err := s.correctSource(ctx, req, ask)
	if err != nil || corrected {
		return corrected, err
	}
	if errors.Is(refusal, cloud.ErrNotFound) {
		// Not the source, so it is the type, or a volume of a hint.
		return false, fmt.Errorf("%w: %s", cloud.ErrInvalid, refusal.Error())
	}
	if req.AnyZone && ask.Zone != "" && strings.Contains(refusal.Error(), "vailability zone") {
		ask.Zone = ""
		return true, nil
	}
	return s.correctZone(ctx, req, ask)
}

// source is what a volume is made from.
type source struct {
	kind    string
	id      string
	sizeGiB int64
	ready   bool
	status  string
}

// broken reports whether the source will never be ready by itself.
func (f source) broken() bool {
	return strings.HasPrefix(f.status, "error") || f.status == string(cloud.VolumeDeleting)
}

// correctSource looks at the source of a refused request.
func (s *Service) correctSource(ctx context.Context, req *CreateRequest, ask *cloud.VolumeRequest) (bool, error) {
	if req.SnapshotID == "" && req.SourceVolumeID == "" {
		return false, nil
	}
	from, err := s.source(ctx, req)
	if err != nil {
		return false, err
	}
	switch {
	case from.broken():
		return false, fmt.Errorf("%s %s has status %s, and can't be copied: %w", from.kind, from.id, from.status, ErrState)
	case !from.ready:
		return false, fmt.Errorf("%s %s has status %s: %w", from.kind, from.id, from.status, ErrUnfinished)
	case from.kind == "backup" && ask.BackupID == "":
		ask.SnapshotID, ask.BackupID = "", from.id
		ask.SizeGiB = max(ask.SizeGiB, from.sizeGiB)
	case from.sizeGiB > ask.SizeGiB:
		ask.SizeGiB = from.sizeGiB
	default:
		return false, nil
	}
	if req.LimitGiB > 0 && ask.SizeGiB > req.LimitGiB {
		return false, fmt.Errorf("%s %s has %d GiB: %w of %d GiB", from.kind, from.id, from.sizeGiB, ErrTooLarge, req.LimitGiB)
	}
	return true, nil
}

// source reads what the request is to be made from.
func (s *Service) source(ctx context.Context, req *CreateRequest) (source, error) {
	if id := req.SourceVolumeID; id != "" {
		v, err := s.cloud.GetVolume(ctx, id)
		if err != nil {
			return source{}, fmt.Errorf("source volume %s: %w", id, err)
		}
		ready := v.Status == cloud.VolumeAvailable || v.Status == cloud.VolumeInUse
		return source{"source volume", id, v.SizeGiB, ready, string(v.Status)}, nil
	}
	snapshot, err := s.cloud.GetSnapshot(ctx, req.SnapshotID)
	if err == nil {
		ready := snapshot.Status == cloud.SnapshotAvailable
		return source{"snapshot", snapshot.ID, snapshot.SizeGiB, ready, string(snapshot.Status)}, nil
	}
	if !errors.Is(err, cloud.ErrNotFound) {
		return source{}, fmt.Errorf("snapshot %s: %w", req.SnapshotID, err)
	}
	backup, err := s.cloud.GetBackup(ctx, req.SnapshotID)
	if err != nil {
		return source{}, fmt.Errorf("snapshot or backup %s: %w", req.SnapshotID, err)
	}
	return source{"backup", backup.ID, backup.SizeGiB, backup.Status == cloud.BackupAvailable, string(backup.Status)}, nil
}
