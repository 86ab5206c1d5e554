package driver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

func in(pairs ...string) *csi.Topology {
	t := &csi.Topology{Segments: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		t.Segments[pairs[i]] = pairs[i+1]
	}
	return t
}

// TestAVolumeIsUsableWhereverANodeHasItsZone goes the way of external-provisioner: what
// a node tells is what a volume is asked for.
func TestAVolumeIsUsableWhereverANodeHasItsZone(t *testing.T) {
	own, both := in(zone.Key, "az1"), in(zone.Key, "az1", zone.WellKnownKey, "az1")
	wellKnown := in(zone.WellKnownKey, "az1")
	for _, test := range []struct {
		name    string
		with    bool
		node    *csi.Topology
		allowed *csi.Topology // what the class has, the node's own where it is nil
		usable  []*csi.Topology
	}{
		{"our key", false, own, nil, []*csi.Topology{own}},
		{"a class that names the well-known key", false, own, wellKnown, []*csi.Topology{own}},
		{"both keys", true, both, nil, []*csi.Topology{own, wellKnown}},
		{"both keys, and a node of an older plugin", true, both, own, []*csi.Topology{own, wellKnown}},
		{"both keys, and a class that names the well-known one", true, both, wellKnown, []*csi.Topology{own, wellKnown}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cloud, conf := startCloud(t)
			s := start(t, driver.Config{
				Controller: true, Cluster: "test", Node: true, Topology: true, WellKnownZone: test.with, CloudConfig: []string{conf},
				CloudNames: []string{""}, MetadataURL: cloud.MetadataURL("node1"), DevelopmentDeviceDir: cloud.DeviceDir("node1"),
			})
			info, err := csi.NewNodeClient(s.conn).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.node, info.GetAccessibleTopology(), protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
			ask := info.GetAccessibleTopology()
			if test.allowed != nil {
				ask = test.allowed
			}
			controller := csi.NewControllerClient(s.conn)
			capability := &csi.VolumeCapability{
				AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
				AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
			}
			created, err := controller.CreateVolume(t.Context(), &csi.CreateVolumeRequest{
				Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{capability},
				AccessibilityRequirements: &csi.TopologyRequirement{Requisite: []*csi.Topology{ask}, Preferred: []*csi.Topology{ask}},
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := controller.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: created.GetVolume().GetVolumeId()})
			if err != nil {
				t.Fatal(err)
			}
			for _, volume := range []*csi.Volume{created.GetVolume(), got.GetVolume()} {
				if diff := cmp.Diff(test.usable, volume.GetAccessibleTopology(), protocmp.Transform()); diff != "" {
					t.Error(diff)
				}
			}
			if _, err := controller.GetCapacity(t.Context(), &csi.GetCapacityRequest{AccessibleTopology: ask}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAServerWithoutAZoneIsRegisteredAsTheOperatorChooses(t *testing.T) {
	const id = "0d5a1f2e-1111-4222-8333-00000000000a"
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"uuid":%q,"availability_zone":null}`, id)
	}))
	defer metadata.Close()
	for _, test := range []struct {
		name     string
		fallback *string
		want     *csi.Topology // nil: refused
	}{
		{"not at all", nil, nil},
		{"in the zone of all such servers", new("nova"), in(zone.Key, "nova", zone.WellKnownKey, "nova")},
		{"with an empty label", new(""), in(zone.Key, "")},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, driver.Config{
				Node: true, Topology: true, WellKnownZone: true, ZoneFallback: test.fallback, MetadataURL: metadata.URL, DevelopmentDeviceDir: t.TempDir(),
			})
			info, err := csi.NewNodeClient(s.conn).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
			if test.want == nil {
				if status.Code(err) != codes.FailedPrecondition {
					t.Errorf("got %v, %v", info, err)
				}
				return
			}
			if diff := cmp.Diff(test.want, info.GetAccessibleTopology(), protocmp.Transform()); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}
