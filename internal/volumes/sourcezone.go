package volumes

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// A copy is made where its source is: most clouds refuse another zone
// (cloned_volume_same_az, which is on unless an operator switches it off). The
// scheduler doesn't know that when it chooses the node, and with it the zone, of
// the pod that a copy is for.

// boundToSource reports whether Cinder refused a copy because of its zone.
func boundToSource(refusal error) bool {
	return strings.Contains(refusal.Error(), "same availability zone")
}

// followSource asks for a copy in the zone of its source, where that is one of
// those that will do. Where it isn't, but others would have been possible, the
// answer is that there is no room: the scheduler then chooses another node.
func (s *Service) followSource(ctx context.Context, req *CreateRequest, ask *cloud.VolumeRequest) (bool, error) {
	from := req.SourceVolumeID
	if from == "" {
		snapshot, err := s.cloud.GetSnapshot(ctx, req.SnapshotID)
		if err != nil {
			return false, fmt.Errorf("snapshot %s: %w", req.SnapshotID, err)
		}
		from = snapshot.VolumeID
	}
	source, err := s.cloud.GetVolume(ctx, from)
	if err != nil {
		return false, fmt.Errorf("source volume %s: %w", from, err)
	}
	switch {
	case source.Zone == "" || source.Zone == ask.Zone || len(req.AcceptZones) == 0:
		return false, nil
	case slices.Contains(req.AcceptZones, zone.Label(source.Zone)), slices.Contains(req.AcceptZones, source.Zone):
		ask.Zone = source.Zone
		return true, nil
	}
	return false, fmt.Errorf("volume %s: its source, volume %s, is in availability zone %s, and copies have to be made there: %w in %s",
		req.Name, from, source.Zone, ErrNoCapacity, strings.Join(req.AcceptZones, ", "))
}
