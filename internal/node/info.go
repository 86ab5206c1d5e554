package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/instance"
)

// NodeGetInfo tells the server's id, its zone and how many volumes it takes.
func (s *Server) NodeGetInfo(ctx context.Context, _ *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	resp, err := s.info(ctx)
	if err != nil {
		return nil, failure("node info", "", err)
	}
	return resp, nil
}

func (s *Server) info(ctx context.Context) (*csi.NodeGetInfoResponse, error) {
	resp := &csi.NodeGetInfoResponse{NodeId: s.cfg.NodeID, MaxVolumesPerNode: attachLimit(s.cfg.AttachLimit)}
	_, zoneGiven := s.cfg.AdditionalTopology[s.cfg.TopologyKey]
	needZone := s.cfg.WithTopology && !zoneGiven
	var id instance.Identity
	if s.cfg.NodeID == "" || needZone {
		var err error
		if id, err = s.self.get(ctx, s.cfg.Identity); err != nil {
			return nil, s.explain(err)
		}
	}
	if resp.NodeId == "" {
		resp.NodeId = id.ServerID
	}
	if s.cfg.WithTopology {
		resp.AccessibleTopology = &csi.Topology{Segments: s.segments(id.Zone)}
	}
	return resp, nil
}

// explain tells the operator of a server with --nodeid what is still missing.
func (s *Server) explain(err error) error {
	if s.cfg.NodeID == "" {
		return err
	}
	return fmt.Errorf("the zone of %s is unknown: give --additional-topology=%s=ZONE, or --with-topology=false: %w",
		s.cfg.NodeID, s.cfg.TopologyKey, err)
}

func (s *Server) segments(zone string) map[string]string {
	segments := map[string]string{s.cfg.TopologyKey: SanitizeLabel(zone)}
	maps.Copy(segments, s.cfg.AdditionalTopology)
	return segments
}

// attachLimit returns the limit to announce. Zero would mean that there is none.
func attachLimit(configured int64) int64 {
	if configured < 1 || configured > MaxAttachLimit {
		return MaxAttachLimit
	}
	return configured
}

// self remembers which server this is, once that has been found out. A failure
// is not remembered: the metadata service may come up later than the node.
type self struct {
	mu    sync.Mutex
	known bool
	id    instance.Identity
}

func (s *self) get(ctx context.Context, find func(context.Context) (instance.Identity, error)) (instance.Identity, error) {
	if find == nil {
		return instance.Identity{}, errors.New("no way to find out which server this is")
	}
	s.mu.Lock()
	known, id := s.known, s.id
	s.mu.Unlock()
	if known {
		return id, nil
	}
	id, err := find(ctx) // two calls at once may both ask: there is no harm in it
	if err != nil {
		return instance.Identity{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.id = true, id
	return id, nil
}

// maxLabel is the longest value of a Kubernetes label.
const maxLabel = 63

// SanitizeLabel makes a value of a Kubernetes label out of the name of a zone:
// runs of other characters become a dash, and neither end is punctuation. Nodes
// have carried labels made this way for years, so that it can't be changed.
func SanitizeLabel(name string) string {
	label := regexp.MustCompile(`[^-a-zA-Z0-9_.]+`).ReplaceAllString(name, "-")
	label = strings.Trim(label, "-_.")
	if len(label) > maxLabel {
		label = strings.Trim(label[:maxLabel], "-_.")
	}
	return label
}
