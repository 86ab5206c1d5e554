package volumes

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// earlier returns the volume that an earlier attempt under this name has made
// for this cluster, nil where there is none. While that can't be found out,
// nothing is over: there may be one. Names are not unique in Cinder:
// what others have named alike is none of ours, and of two of ours, made when
// an answer was lost for very long, it is always the older one.
func (s *Service) earlier(ctx context.Context, name string) (*cloud.Volume, error) {
	var found *cloud.Volume
	page := cloud.Page{}
	for {
		volumes, next, err := s.cloud.ListVolumes(ctx, cloud.VolumeFilter{Name: name}, page)
		if err != nil {
			return nil, unfinished(fmt.Errorf("looking for an earlier volume %s: %w", name, err))
		}
		for i := range volumes {
			v := &volumes[i]
			if v.Name != name || !s.owned(v.Metadata) || v.Status == cloud.VolumeDeleting && found != nil {
				continue
			}
			if found != nil {
				logging.From(ctx).Warn("two volumes of this cluster have one name: the older is used, remove the other",
					zap.String("name", name), zap.String("volume", v.ID), zap.String("other", found.ID))
			}
			if found == nil || found.Status == cloud.VolumeDeleting || older(v, found) {
				found = v
			}
		}
		if next == "" {
			return found, nil
		}
		page.Marker = next
	}
}

func older(a, b *cloud.Volume) bool {
	if !a.CreatedAt.Equal(b.CreatedAt) {
		return a.CreatedAt.Before(b.CreatedAt)
	}
	return a.ID < b.ID
}

// differs returns ErrExists, with what differs, when v is not what the request
// asks for.
func (r CreateRequest) differs(v *cloud.Volume) error {
	different := func(what string, have, want any) error {
		return fmt.Errorf("volume %s (%s): %w: its %s is %v, wanted %v", v.ID, r.Name, ErrExists, what, have, want)
	}
	sourced := r.SnapshotID != "" || r.SourceVolumeID != ""
	switch {
	case v.SizeGiB < r.SizeGiB, !sourced && v.SizeGiB != r.SizeGiB:
		return different("size in GiB", v.SizeGiB, r.SizeGiB)
	case r.LimitGiB > 0 && v.SizeGiB > r.LimitGiB:
		return different("size in GiB", v.SizeGiB, fmt.Sprintf("at most %d", r.LimitGiB))
	case r.Type != "" && v.Type != r.Type && uuid.Validate(r.Type) != nil:
		return different("type", v.Type, r.Type)
	case !r.fits(v.Zone):
		return different("availability zone", v.Zone, r.Zone)
	case v.SourceVolumeID != r.SourceVolumeID:
		return different("source volume", orNone(v.SourceVolumeID), orNone(r.SourceVolumeID))
	case r.SnapshotID != "" && v.SnapshotID != r.SnapshotID && v.BackupID != r.SnapshotID && !untold(v):
		return different("snapshot or backup", orNone(v.SnapshotID+v.BackupID), r.SnapshotID)
	case r.SnapshotID == "" && v.SnapshotID+v.BackupID != "":
		return different("snapshot or backup", v.SnapshotID+v.BackupID, orNone(""))
	case r.Multiattach && !v.Multiattach:
		return fmt.Errorf("volume %s (%s): %w: %w", v.ID, r.Name, ErrExists, ErrNotMultiattach)
	}
	return nil
}

// untold reports whether it is too early to know what a volume was made from:
// Cinder names the backup when it has been restored.
func untold(v *cloud.Volume) bool {
	return beingMade(v) && v.SnapshotID+v.BackupID+v.SourceVolumeID == ""
}

// fits reports whether a volume in a zone of Cinder's is where it is wanted.
func (r CreateRequest) fits(name string) bool {
	label := zone.Label(name)
	if r.Zone == "" || r.AnyZone || name == r.Zone || label == r.Zone {
		return true
	}
	return slices.Contains(r.AcceptZones, label) || slices.Contains(r.AcceptZones, name)
}

func orNone(id string) string {
	if id == "" {
		return "none"
	}
	return id
}
