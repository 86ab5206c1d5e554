package volumes

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// correctZone replaces the label of a zone by the zone's name, and a zone that
// Cinder doesn't have by the next that will do. Nearly always it has the zone
// under that very name, so that nobody asks for the zones before Cinder has
// refused one.
func (s *Service) correctZone(ctx context.Context, req *CreateRequest, ask *cloud.VolumeRequest) (bool, error) {
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
		if next := req.firstOf(zones); next != "" {
			ask.Zone = next
			return true, nil
		}
		return false, fmt.Errorf("availability zone %s does not exist, there are %s: %w", ask.Zone, strings.Join(zones, ", "), cloud.ErrInvalid)
	case 1:
		ask.Zone = meant[0]
		return true, nil
	}
	return false, fmt.Errorf("availability zone %s may be any of %s: set the parameter availability to one of them: %w",
		ask.Zone, strings.Join(meant, ", "), cloud.ErrInvalid)
}

// firstOf returns the first of zones that will do, in the order of the request;
// empty where none does.
func (r *CreateRequest) firstOf(zones []string) string {
	for _, label := range r.AcceptZones {
		if slices.Contains(zones, label) {
			return label
		}
		if meant := zonesOf(zones, label); len(meant) == 1 {
			return meant[0]
		}
	}
	return ""
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
