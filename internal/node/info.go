package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/zone"
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
	id, err := s.self.get(ctx, s.cfg.Identity)
	if err != nil {
		return nil, err
	}
	resp := &csi.NodeGetInfoResponse{NodeId: id.ServerID, MaxVolumesPerNode: s.attachLimit(ctx)}
	if s.cfg.WithTopology {
		if _, given := s.cfg.AdditionalTopology[s.cfg.TopologyKey]; id.Zone == "" && !given {
			return nil, fmt.Errorf("%w: nothing tells this server's zone: give --additional-topology=%s=ZONE, or --with-topology=false",
				errRefused, s.cfg.TopologyKey)
		}
		resp.AccessibleTopology = &csi.Topology{Segments: s.segments(id.Zone)}
	}
	return resp, nil
}

func (s *Server) segments(name string) map[string]string {
	segments := map[string]string{s.cfg.TopologyKey: zone.Label(name)}
	maps.Copy(segments, s.cfg.AdditionalTopology)
	return segments
}

// attachLimit returns the limit to announce: what is configured, but no more
// than the server has room for at this moment. Zero would mean that there is none.
func (s *Server) attachLimit(ctx context.Context) int64 {
	limit := s.cfg.AttachLimit
	if limit < 1 || limit > MaxAttachLimit {
		limit = MaxAttachLimit
	}
	most, err := s.cfg.Finder.AttachLimit(ctx)
	if err != nil {
		logging.From(ctx).Warn("can't tell for how many volumes this server has room", zap.Error(err))
		return limit
	}
	return max(1, min(limit, most))
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

// NodeGetCapabilities tells what this node service can do.
func (s *Server) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	types := []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	}
	resp := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range types {
		resp.Capabilities = append(resp.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return resp, nil
}
