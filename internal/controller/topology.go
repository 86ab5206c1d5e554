package controller

import (
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// topologyKey is the key of the zone in topologies; its values are labels, see
// zone.Label. PersistentVolumes refer to it: it can never change.
const topologyKey = "topology.cinder.csi.openstack.org/zone"

// placement is where a volume is wanted.
type placement struct {
	// zone is the zone to ask for, empty for Cinder's choice.
	zone string
	// accept are the labels of all zones that will do, in the order in which they
	// are preferred; empty: only zone.
	accept []string
	// wish tells that zone is not what the user wrote, and that Cinder may not
	// know it.
	wish bool
}

// place decides on a zone: the availability parameter, else the first preferred
// topology that has one, else the first requisite one.
func (s *Server) place(availability string, r *csi.TopologyRequirement) placement {
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
	return placement{zone: accept[0], accept: accept, wish: s.cfg.IgnoreVolumeAZ}
}

// zonesOf returns the zones that topologies name, in order.
func zonesOf(topologies []*csi.Topology) []string {
	var zones []string
	for _, t := range topologies {
		if zone := t.GetSegments()[topologyKey]; zone != "" {
			zones = append(zones, zone)
		}
	}
	return zones
}

// accessibleFrom returns where a volume in a zone can be used.
func (s *Server) accessibleFrom(name string, r *csi.TopologyRequirement) []*csi.Topology {
	switch {
	case !s.cfg.WithTopology:
		return nil
	case s.cfg.IgnoreVolumeAZ:
		return r.GetPreferred()
	case name == "":
		return nil
	}
	return []*csi.Topology{{Segments: map[string]string{topologyKey: zone.Label(name)}}}
}
