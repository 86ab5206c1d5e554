package volumes

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// correctZone replaces the label of a zone by the zone's name. Nearly always
// the two are the same, so that nobody asks for the zones before Cinder has
// refused one.
func (s *Service) correctZone(ctx context.Context, ask *cloud.VolumeRequest) (bool, error) {
	if ask.Zone == "" {
		return false, nil
	}
	zones, err := s.cloud.ListZones(ctx)
	if err != nil {
		return false, fmt.Errorf("looking for availability zone %s: %w", ask.Zone, err)
	}
	if slices.Contains(zones, ask.Zone) {
		return false, nil
	}
	meant := zonesOf(zones, ask.Zone)
	switch len(meant) {
	case 0:
		return false, fmt.Errorf("availability zone %s does not exist, there are %s: %w", ask.Zone, strings.Join(zones, ", "), cloud.ErrInvalid)
	case 1:
		ask.Zone = meant[0]
		return true, nil
	}
	return false, fmt.Errorf("availability zone %s may be any of %s: set the parameter availability to one of them: %w",
		ask.Zone, strings.Join(meant, ", "), cloud.ErrInvalid)
}

// zonesOf returns the zones that a label stands for.
func zonesOf(zones []string, label string) []string {
	var meant []string
	for _, name := range zones {
		if zone.Label(name) == label {
			meant = append(meant, name)
		}
	}
	return meant
}
