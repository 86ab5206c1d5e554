package node_test

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

const zoneKey = "topology.cinder.csi.openstack.org/zone"

func TestANodeTellsWhoAndWhereItIs(t *testing.T) {
	known := func(context.Context) (instance.Identity, error) {
		return instance.Identity{ServerID: "server", Zone: "zone 1"}, nil
	}
	unknown := func(context.Context) (instance.Identity, error) {
		return instance.Identity{}, instance.ErrUnknown
	}
	region := map[string]string{"topology.kubernetes.io/region": "R1"}
	zone := map[string]string{zoneKey: "here"}
	for _, tt := range []struct {
		name     string
		cfg      node.Config
		id       string
		segments map[string]string
		limit    int64
		told     string
	}{
		{"plainly", node.Config{Identity: known}, "server", nil, 256, ""},
		{"with topology", node.Config{Identity: known, WithTopology: true}, "server", map[string]string{zoneKey: "zone-1"}, 256, ""},
		{
			"with more topology", node.Config{Identity: known, WithTopology: true, AdditionalTopology: region},
			"server", map[string]string{zoneKey: "zone-1", "topology.kubernetes.io/region": "R1"}, 256, "",
		},
		{"with the zone given", node.Config{Identity: known, WithTopology: true, AdditionalTopology: zone}, "server", zone, 256, ""},
		{"with more topology but none wanted", node.Config{Identity: known, AdditionalTopology: region}, "server", nil, 256, ""},
		{
			"with the well-known key, too", node.Config{Identity: known, WithTopology: true, WellKnownZone: true, AdditionalTopology: region},
			"server", map[string]string{zoneKey: "zone-1", "topology.kubernetes.io/zone": "zone-1", "topology.kubernetes.io/region": "R1"}, 256, "",
		},
		{"with a limit", node.Config{Identity: known, AttachLimit: 25}, "server", nil, 25, ""},
		{"with a negative limit", node.Config{Identity: known, AttachLimit: -1}, "server", nil, 256, ""},
		{"with too large a limit", node.Config{Identity: known, AttachLimit: 257}, "server", nil, 256, ""},
		{"not at all", node.Config{Identity: unknown}, "", nil, 0, instance.ErrUnknown.Error()},
		{"without a way to", node.Config{}, "", nil, 0, "no way"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Finder = limited{limit: 256}
			resp, err := node.New(tt.cfg).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
			if tt.told != "" {
				wantCode(t, err, codes.Internal, tt.told)
				return
			}
			must(t, err)
			if resp.GetNodeId() != tt.id || resp.GetMaxVolumesPerNode() != tt.limit ||
				!maps.Equal(resp.GetAccessibleTopology().GetSegments(), tt.segments) {
				t.Errorf("got %v, want %s, %d and %v", resp, tt.id, tt.limit, tt.segments)
			}
		})
	}
}

// limited is a Finder of a server that takes so many volumes.
type limited struct {
	blockdev.Finder
	limit int64
	err   error
}

func (l limited) AttachLimit(context.Context) (int64, error) { return l.limit, l.err }

func TestTheLimitIsNoMoreThanTheServerHasRoomFor(t *testing.T) {
	for _, tt := range []struct {
		configured, reserved int64
		finder               limited
		want                 int64
	}{
		{0, 0, limited{limit: 26}, 26},
		{20, 0, limited{limit: 26}, 20},
		{100, 0, limited{limit: 26}, 26},
		{100, 0, limited{limit: 0}, 1},
		{100, 0, limited{limit: -3}, 1},
		{100, 0, limited{err: errors.New("no sysfs")}, 100},
		{0, 2, limited{limit: 26}, 24},
		{20, 2, limited{limit: 26}, 18},
		{20, 30, limited{limit: 26}, 1},
		{100, 4, limited{err: errors.New("no sysfs")}, 96},
	} {
		s := node.New(node.Config{AttachLimit: tt.configured, ReservedAttachments: tt.reserved, Finder: tt.finder, Identity: func(context.Context) (instance.Identity, error) {
			return instance.Identity{ServerID: "server"}, nil
		}})
		resp, err := s.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
		if err != nil || resp.GetMaxVolumesPerNode() != tt.want {
			t.Errorf("%d configured, %+v: %v, %v; want %d", tt.configured, tt.finder, resp, err, tt.want)
		}
	}
}

func TestALabelIsNeverEmptyByAccident(t *testing.T) {
	none, fallback, odd := "", "zone 9", "."
	for _, tt := range []struct {
		name, zone string
		cfg        node.Config
		want       map[string]string // nil: refused
	}{
		{"a zone", "az1", node.Config{ZoneFallback: &fallback}, map[string]string{zoneKey: "az1"}},
		{"no zone", "", node.Config{}, nil},
		{"a zone of which nothing can be a label", "...", node.Config{}, nil},
		{"no zone, a fallback", "", node.Config{ZoneFallback: &fallback}, map[string]string{zoneKey: "zone-9"}},
		{"no label, a fallback", " / ", node.Config{ZoneFallback: &fallback}, map[string]string{zoneKey: "zone-9"}},
		{"no zone, and an empty label wanted", "", node.Config{ZoneFallback: &none, WellKnownZone: true}, map[string]string{zoneKey: ""}},
		{"no zone, one given", "", node.Config{ZoneFallback: &odd, AdditionalTopology: map[string]string{zoneKey: "given"}}, map[string]string{zoneKey: "given"}},
	} {
		tt.cfg.WithTopology, tt.cfg.Finder = true, limited{limit: 256}
		tt.cfg.Identity = func(context.Context) (instance.Identity, error) {
			return instance.Identity{ServerID: "server", Zone: tt.zone}, nil
		}
		resp, err := node.New(tt.cfg).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
		if tt.want == nil {
			wantCode(t, err, codes.FailedPrecondition, "--zone-fallback")
			continue
		}
		if got := resp.GetAccessibleTopology().GetSegments(); err != nil || !maps.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}

func TestAServerThatChangesItsZoneSaysWhatTheLabelHasToBecome(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	ctx := logging.Into(t.Context(), zap.New(core))
	where := "az1"
	s := node.New(node.Config{Finder: limited{limit: 256}, WithTopology: true, NodeName: "worker-1", Identity: func(context.Context) (instance.Identity, error) {
		return instance.Identity{ServerID: "server", Zone: where}, nil
	}})
	for i, now := range []string{"az1", "az1", "az2", "az2"} {
		where = now
		resp, err := s.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
		if got := resp.GetAccessibleTopology().GetSegments()[zoneKey]; err != nil || got != now {
			t.Errorf("call %d: %q, %v; want %q", i, got, err, now)
		}
		if want := max(0, min(1, i-1)); logs.Len() != want {
			t.Fatalf("call %d: %d errors are logged, want %d", i, logs.Len(), want)
		}
	}
	fields := logs.All()[0].ContextMap()
	for key, want := range map[string]string{
		"nodeName": "worker-1", "label": zoneKey, "old": "az1", "new": "az2",
		"command": "kubectl label node worker-1 " + zoneKey + "=az2 --overwrite",
	} {
		if fields[key] != want {
			t.Errorf("the log says %s=%v, want %s", key, fields[key], want)
		}
	}
}

func TestAFailureToFindOutIsNotRemembered(t *testing.T) {
	var calls atomic.Int32
	s := node.New(node.Config{Finder: limited{limit: 256}, Identity: func(context.Context) (instance.Identity, error) {
		if calls.Add(1) < 3 {
			return instance.Identity{}, errors.New("not yet")
		}
		return instance.Identity{ServerID: "server"}, nil
	}})
	for i := range 5 {
		resp, err := s.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
		if (err == nil) != (i >= 2) || err == nil && resp.GetNodeId() != "server" {
			t.Errorf("call %d: %v, %v", i, resp, err)
		}
	}
}
