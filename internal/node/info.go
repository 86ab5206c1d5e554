package node

import (
	"context"
	"errors"
	"fmt"
	"maps"

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
		return nil, s.failure("node info", "", err)
	}
	return resp, nil
}

func (s *Server) info(ctx context.Context) (*csi.NodeGetInfoResponse, error) {
	if s.cfg.Identity == nil {
		return nil, errors.New("no way to find out which server this is")
	}
	id, err := s.cfg.Identity(ctx)
	if err != nil {
		return nil, err
	}
	limit, err := s.AttachLimit(ctx)
	if err != nil {
		logging.From(ctx).Warn("can't tell for how many volumes this server has room", zap.Error(err))
	}
	s.seen.limit.Store(limit.Announced)
	resp := &csi.NodeGetInfoResponse{NodeId: id.ServerID, MaxVolumesPerNode: limit.Announced}
	if s.cfg.WithTopology {
		label, err := s.zoneLabel(id)
		if err != nil {
			return nil, err
		}
		if before := s.zone.Swap(&label); before != nil && *before != label {
			logging.From(ctx).Error("this server has changed its availability zone; its Node keeps the old label until somebody changes it, and the kubelet won't register the driver again before",
				zap.String("nodeName", s.cfg.NodeName), zap.String("label", zone.Key), zap.String("old", *before), zap.String("new", label),
				zap.String("command", zone.Relabel(s.cfg.NodeName, zone.Key, label)))
		}
		resp.AccessibleTopology = &csi.Topology{Segments: s.segments(label)}
	}
	return resp, nil
}

// zoneLabel returns the label of the server's zone: what is configured, else the zone
// that the cloud tells, else the fallback. A label is never empty by accident.
func (s *Server) zoneLabel(id instance.Identity) (string, error) {
	if given, ok := s.cfg.AdditionalTopology[zone.Key]; ok {
		return given, nil
	}
	if label := zone.Label(id.Zone); label != "" {
		return label, nil
	}
	if s.cfg.ZoneFallback != nil {
		return zone.Label(*s.cfg.ZoneFallback), nil
	}
	return "", fmt.Errorf("%w: neither config drive nor metadata service tell an availability zone of server %s that can be a label (%q): "+
		"set --zone-fallback to the zone that nodes without one are in, or --with-topology=false where volumes can be used in all zones",
		errNoZone, id.ServerID, id.Zone)
}

func (s *Server) segments(label string) map[string]string {
	segments := map[string]string{zone.Key: label}
	if s.cfg.WellKnownZone && label != "" {
		segments[zone.WellKnownKey] = label
	}
	maps.Copy(segments, s.cfg.AdditionalTopology)
	return segments
}

// AttachLimit is how many volumes the server takes, and why.
type AttachLimit struct {
	// Announced is what the kubelet is told: the smaller one of the next two, less
	// Reserved, and at least 1.
	Announced int64 `json:"announced"`
	// Configured is what the configuration says, or MaxAttachLimit.
	Configured int64 `json:"configured"`
	// Room is how many the server has room for at this moment, those counted that it has;
	// 0 where that can't be told.
	Room     int64 `json:"room"`
	Reserved int64 `json:"reserved"`
}

// AttachLimit returns the limit to announce, and what it is made of. It is complete also
// beside an error: the room can't be told then.
func (s *Server) AttachLimit(ctx context.Context) (l AttachLimit, err error) {
	l.Configured, l.Reserved = s.cfg.AttachLimit, s.cfg.ReservedAttachments
	if l.Configured < 1 || l.Configured > MaxAttachLimit {
		l.Configured = MaxAttachLimit
	}
	least := l.Configured
	if l.Room, err = s.cfg.Finder.AttachLimit(ctx); err == nil {
		least = min(least, l.Room)
	}
	l.Announced = max(1, least-l.Reserved) // 0 would mean that there is no limit
	return l, err
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
