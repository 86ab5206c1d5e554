package volumes

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// A cloud with allow_availability_zone_fallback does not refuse a zone that it
// doesn't know: it makes the volume in its default zone, and says so in its
// answer and nowhere else. Such a volume can't be used where it was wanted.

// misplaced reports whether Cinder has made a volume in a zone that won't do.
func (r CreateRequest) misplaced(v *cloud.Volume) bool { return v.Zone != "" && !r.fits(v.Zone) }

// takeBack removes a volume that this very call has made, in a zone that won't
// do. It returns nil where it is worth another try (again), since the zone that
// was asked for was a label, or none of Cinder's: req has the name of the zone that
// was meant, or of the next that will do, then.
func (s *Service) takeBack(ctx context.Context, req *CreateRequest, volume *cloud.Volume, again bool) error {
	log(ctx, volume.ID).Warn("the cloud has made a volume in another zone than it was asked for, it is taken back",
		zap.String("name", req.Name), zap.String("wanted", req.Zone), zap.String("zone", volume.Zone))
	elsewhere := fmt.Errorf("volumes for availability zone %q are made in %q by this cloud: %w in the first", req.Zone, volume.Zone, ErrNoCapacity)
	if err := s.withdraw(ctx, volume); err != nil {
		return unfinished(fmt.Errorf("%w; removing volume %s again: %w", elsewhere, volume.ID, err))
	}
	zones, err := s.cloud.ListZones(ctx)
	if err != nil {
		return fmt.Errorf("%w; looking for the zone: %w", unfinished(elsewhere), err)
	}
	meant, next := zonesOf(zones, req.Zone), req.firstOf(zones)
	if len(meant) == 1 {
		next = meant[0]
	}
	if !again || slices.Contains(zones, req.Zone) || len(meant) > 1 || next == "" {
		return elsewhere
	}
	req.Zone = next
	return nil
}

// removeMisplaced removes what an interrupted call has left in a zone that
// won't do, and reports whether it did. Only a volume that is being created is
// removed, since that never was usable, and only where Cinder doesn't know the
// zone that is asked for, so that it can be nothing but a misplaced one. Any
// other is left to differs.
func (s *Service) removeMisplaced(ctx context.Context, req CreateRequest, volume *cloud.Volume) (bool, error) {
	if volume.Status != cloud.VolumeCreating || len(volume.Attachments) > 0 || !req.misplaced(volume) {
		return false, nil
	}
	zones, err := s.cloud.ListZones(ctx)
	if err != nil {
		return false, unfinished(fmt.Errorf("volume %s is being made in zone %s: looking for the zones: %w", volume.ID, volume.Zone, err))
	}
	if slices.Contains(zones, req.Zone) {
		return false, nil
	}
	if err := s.withdraw(ctx, volume); err != nil {
		return false, unfinished(err)
	}
	return true, nil
}
