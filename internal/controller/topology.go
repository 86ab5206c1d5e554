package controller

import (
	"cmp"
	"maps"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// placement is where a volume is wanted.
type placement struct {
	// zone is the zone to ask for, empty for Cinder's choice.
	zone string
	// accept are the labels of all zones that will do, in the order in which they
	// are preferred; empty: only zone.
	accept []string
	// anyZone tells that zone is the zone of a node, which Cinder may not
	// know: its default will do then.
	anyZone bool
}

// placementFor decides on a zone: the availability parameter, else the first preferred
// topology that has one, else the first requisite one.
func (s *Server) placementFor(availability string, r *csi.TopologyRequirement) placement {
	if availability != "" || !s.cfg.WithTopology {
		return placement{zone: availability}
	}
	preferred, requisite := zonesOf(r.GetPreferred()), zonesOf(r.GetRequisite())
	accept := preferred
	for _, zone := range requisite {
		if !slices.Contains(accept, zone) {
			accept = append(accept, zone)
		}
	}
	if len(accept) == 0 {
		return placement{}
	}
	return placement{zone: accept[0], accept: accept, anyZone: s.cfg.IgnoreVolumeAZ}
}

// zonesOf returns the zones that topologies name, in order.
func zonesOf(topologies []*csi.Topology) []string {
	var zones []string
	for _, t := range topologies {
		if zone := zoneOf(t); zone != "" {
			zones = append(zones, zone)
		}
	}
	return zones
}

// zoneOf returns the label of the zone that a topology names; "" for none. Our own key goes
// first: allowedTopologies of a class may have just the well-known one.
func zoneOf(t *csi.Topology) string {
	return cmp.Or(t.GetSegments()[zone.Key], t.GetSegments()[zone.WellKnownKey])
}

// accessibleFrom returns where a volume in a zone can be used.
func (s *Server) accessibleFrom(name string, r *csi.TopologyRequirement) []*csi.Topology {
	switch {
	case !s.cfg.WithTopology:
		return nil
	case s.cfg.IgnoreVolumeAZ:
		return s.underEachKey(r.GetPreferred())
	case name == "":
		return nil
	}
	return s.underEachKey([]*csi.Topology{{Segments: map[string]string{zone.Key: zone.Label(name)}}})
}

// underEachKey returns topologies so that a node is in one of them that has its zone under
// one of the two keys only: external-provisioner makes a term of the volume's node affinity
// of each, and a node has to fit one term, but all keys of it. Nodes of older plugins have
// our key only, and the templates by which an autoscaler makes the first node of a group
// have the well-known one only.
func (s *Server) underEachKey(topologies []*csi.Topology) []*csi.Topology {
	if !s.cfg.WellKnownZone {
		return topologies
	}
	var all []*csi.Topology
	for _, t := range topologies {
		name := zoneOf(t)
		if name == "" {
			all = append(all, t)
			continue
		}
		for _, key := range []string{zone.Key, zone.WellKnownKey} {
			segments := maps.Clone(t.GetSegments())
			delete(segments, zone.Key)
			delete(segments, zone.WellKnownKey)
			segments[key] = name
			all = append(all, &csi.Topology{Segments: segments})
		}
	}
	return all
}
