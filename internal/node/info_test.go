package node_test

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/instance"
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
		{"with another key", node.Config{Identity: known, WithTopology: true, TopologyKey: "k"}, "server", map[string]string{"k": "zone-1"}, 256, ""},
		{"with a limit", node.Config{Identity: known, AttachLimit: 25}, "server", nil, 25, ""},
		{"with a negative limit", node.Config{Identity: known, AttachLimit: -1}, "server", nil, 256, ""},
		{"with too large a limit", node.Config{Identity: known, AttachLimit: 257}, "server", nil, 256, ""},
		{"with an id of its own", node.Config{Identity: unknown, NodeID: "mine"}, "mine", nil, 256, ""},
		{"with an id and no way to know", node.Config{NodeID: "mine"}, "mine", nil, 256, ""},
		{"with an id and a zone", node.Config{NodeID: "mine", WithTopology: true, AdditionalTopology: zone}, "mine", zone, 256, ""},
		{"with an id but no zone", node.Config{Identity: unknown, NodeID: "mine", WithTopology: true}, "", nil, 0, "--additional-topology"},
		{"not at all", node.Config{Identity: unknown}, "", nil, 0, instance.ErrUnknown.Error()},
		{"without a way to", node.Config{}, "", nil, 0, "no way"},
	} {
		t.Run(tt.name, func(t *testing.T) {
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

func TestAFailureToFindOutIsNotRemembered(t *testing.T) {
	var calls atomic.Int32
	s := node.New(node.Config{Identity: func(context.Context) (instance.Identity, error) {
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
	if n := calls.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

func TestLabelsOfZones(t *testing.T) {
	for zone, want := range map[string]string{
		"nova":                    "nova",
		"az 1":                    "az-1",
		"az: (1)":                 "az-1",
		"_az.1-":                  "az.1",
		"Zürich":                  "Z-rich",
		"":                        "",
		"---":                     "",
		strings.Repeat("a", 70):   strings.Repeat("a", 63),
		strings.Repeat("ab-", 30): strings.Repeat("ab-", 20) + "ab",
	} {
		if got := node.SanitizeLabel(zone); got != want {
			t.Errorf("%q became %q, want %q", zone, got, want)
		}
	}
}

func FuzzSanitizeLabel(f *testing.F) {
	label := regexp.MustCompile(`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`) // what Kubernetes accepts
	for _, seed := range []string{"nova", "az 1", "-", strings.Repeat("x-", 80), "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, zone string) {
		got := node.SanitizeLabel(zone)
		if len(got) > 63 || !label.MatchString(got) {
			t.Errorf("%q became %q", zone, got)
		}
		if again := node.SanitizeLabel(got); again != got {
			t.Errorf("%q became %q, and that %q", zone, got, again)
		}
	})
}
