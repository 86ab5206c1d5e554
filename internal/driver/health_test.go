package driver_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/driver"
)

// until waits for something that is bound to happen.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for !happened() {
		if t.Context().Err() != nil {
			t.Fatalf("%s never happened", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func requests(t *testing.T, cloud *devcloud.Cloud) admin.Requests {
	t.Helper()
	all, err := cloud.Admin().Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestHealthAsksNoCloud(t *testing.T) {
	cloud, conf := startCloud(t)
	address := freeAddress(t)
	start(t, driver.Config{
		Controller: true, Cluster: "test", Node: true, CloudConfig: []string{conf}, CloudNames: []string{""},
		MetadataURL: cloud.MetadataURL("node1"), HTTPEndpoint: address, DevelopmentDeviceDir: cloud.DeviceDir("node1"),
	})
	until(t, "the login", func() bool { return get(t, "http://"+address+"/readyz") == "ok\n" })
	before := requests(t, cloud)
	for range 50 {
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			if got := get(t, "http://"+address+path); !strings.Contains(got, "ok\n") && !strings.Contains(got, "cinder_csi_build_info{") {
				t.Fatalf("%s: %s", path, got)
			}
		}
	}
	if after := requests(t, cloud); after.Total != before.Total || after.Metadata != before.Metadata {
		t.Errorf("health and metrics sent requests: %d and %d of the metadata service before, %d and %d after", before.Total, before.Metadata, after.Total, after.Metadata)
	}
}

// What only waits is told to come again; what a stop doesn't end would keep the server
// from stopping for the grace period, and its answer is another.
func TestAStopEndsWhatWaitsInBothRoles(t *testing.T) {
	cloud, conf := startCloud(t)
	address := freeAddress(t)
	s := start(t, driver.Config{
		Controller: true, Cluster: "test", Node: true, CloudConfig: []string{conf}, CloudNames: []string{""},
		MetadataURL: cloud.MetadataURL("node1"), HTTPEndpoint: address, DevelopmentDeviceDir: t.TempDir(),
	})
	controller, node := csi.NewControllerClient(s.conn), csi.NewNodeClient(s.conn)
	made, err := controller.CreateVolume(t.Context(), volume("attached", nil))
	if err != nil {
		t.Fatal(err)
	}
	id, ability := made.GetVolume().GetVolumeId(), volume("", nil).GetVolumeCapabilities()[0]
	if err := cloud.Admin().SetFaults(t.Context(), admin.Fault{Operation: "volume.create", Stuck: true}, admin.Fault{Operation: "attachment.create", Stuck: true}); err != nil {
		t.Fatal(err)
	}
	staging := t.TempDir()
	calls := map[string]func(context.Context) error{
		"CreateVolume": func(ctx context.Context) error {
			_, err := controller.CreateVolume(ctx, volume("waits", nil))
			return err
		},
		"ControllerPublishVolume": func(ctx context.Context) error {
			_, err := controller.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: cloud.ServerID("node1"), VolumeCapability: ability})
			return err
		},
		// Its disk never comes.
		"NodeStageVolume": func(ctx context.Context) error {
			_, err := node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: staging, VolumeCapability: ability})
			return err
		},
	}
	type outcome struct {
		call string
		err  error
	}
	outcomes := make(chan outcome, len(calls))
	for name, call := range calls {
		//nolint:usetesting // it outlives what the test waits for
		go func() { outcomes <- outcome{name, call(context.Background())} }()
	}
	until(t, "the wait", func() bool {
		all, page := requests(t, cloud), get(t, "http://"+address+"/metrics")
		return all.Operations["volume.create"] == 2 && all.Operations["attachment.create"] == 1 && all.InFlight == 0 &&
			strings.Contains(page, `grpc_server_started_total{grpc_method="NodeStageVolume",grpc_service="csi.v1.Node",grpc_type="unary"} 1`)
	})
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for range calls {
		if o := <-outcomes; status.Code(o.err) != codes.Unavailable || !strings.Contains(o.err.Error(), "ask again") {
			t.Errorf("%s ended with %v", o.call, o.err)
		}
	}
}
