package volumes

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// notInLabel matches what a label value of Kubernetes may not contain.
var notInLabel = regexp.MustCompile(`[^-a-zA-Z0-9_.]+`)

// ZoneLabel returns the label value that stands for one of Cinder's zones: runs
// of other characters than letters, digits, '-', '_' and '.' become one '-',
// the ends are trimmed of punctuation, and it is cut to 63 characters. Nodes
// carry this value, so the rule can never change.
func ZoneLabel(zone string) string {
	label := strings.Trim(notInLabel.ReplaceAllString(zone, "-"), "-_.")
	return label[:min(len(label), 63)]
}

// zoneLister is a cloud that can tell the names of its zones.
type zoneLister interface {
	ListZones(ctx context.Context) ([]string, error)
}

// correctZone replaces the label of a zone by the zone's name. Nearly always
// the two are the same, so that nobody asks for the zones before Cinder has
// refused one.
func (s *Service) correctZone(ctx context.Context, ask *cloud.VolumeRequest) (bool, error) {
	lister, ok := s.cloud.(zoneLister)
	if !ok || ask.Zone == "" {
		return false, nil
	}
	zones, err := lister.ListZones(ctx)
	if err != nil {
		return false, fmt.Errorf("looking for availability zone %s: %w", ask.Zone, err)
	}
	for _, zone := range zones {
		if zone == ask.Zone {
			return false, nil
		}
	}
	for _, zone := range zones {
		if ZoneLabel(zone) == ask.Zone {
			ask.Zone = zone
			return true, nil
		}
	}
	return false, fmt.Errorf("availability zone %s does not exist, there are %s: %w", ask.Zone, strings.Join(zones, ", "), cloud.ErrInvalid)
}
