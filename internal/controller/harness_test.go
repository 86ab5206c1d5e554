package controller_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/controller/controllertest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	gib  = 1 << 30
	zone = "topology.cinder.csi.openstack.org/zone"
)

// world is a development cloud, reached over HTTP, and the service under test.
type world struct {
	*testing.T
	cloud *devcloud.Cloud
	admin *admin.Client
	// client is the one that the service uses.
	client *openstack.Client
	*controller.Server
	// config is that of the service.
	config controller.Config
}

type option func(*devcloud.Config, *controller.Config)

// newWorld starts a cloud with servers one to four. A test with a world runs beside
// others: it mostly waits for its cloud.
func newWorld(t *testing.T, latency devcloud.Latency, options ...option) *world {
	t.Helper()
	t.Parallel()
	return startWorld(t, latency, options...)
}

// startWorld is newWorld for a part of a test that runs beside others already.
func startWorld(t *testing.T, latency devcloud.Latency, options ...option) *world {
	t.Helper()
	cloudConfig := devcloud.Config{
		StateDir: filepath.Join(t.TempDir(), "cloud"), Disks: devcloud.DisksNone, Latency: latency, Ephemeral: true,
		Servers: []devcloud.Server{{Name: "one"}, {Name: "two"}, {Name: "three"}, {Name: "four"}},
	}
	config := controller.Config{WithTopology: true}
	for _, o := range options {
		o(&cloudConfig, &config)
	}
	c, err := devcloud.Start(t.Context(), cloudConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	client := connect(t, c)
	service := volumes.New(client, volumes.Options{Cluster: "test"})
	config.Source = controllertest.Clouds{"": service, "second": service}
	return &world{T: t, cloud: c, admin: c.Admin(), client: client, Server: controller.New(config), config: config}
}

// connect logs in as the driver does.
func connect(t *testing.T, c *devcloud.Cloud) *openstack.Client {
	t.Helper()
	return connectAs(t, c.CloudConf())
}

// within returns a context with a deadline, as the sidecars set one.
func (w *world) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), d)
	w.Cleanup(cancel)
	return ctx
}

func capability(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

func blockCapability(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

var singleWriter = capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)

// request asks for an ordinary volume of some GiB.
func request(name string, sizeGiB int64) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name: name, VolumeCapabilities: []*csi.VolumeCapability{singleWriter},
		CapacityRange: &csi.CapacityRange{RequiredBytes: sizeGiB * gib},
	}
}

func (w *world) create(req *csi.CreateVolumeRequest) *csi.Volume {
	w.Helper()
	resp, err := w.CreateVolume(w.within(time.Minute), req)
	if err != nil {
		w.Fatal(err)
	}
	return resp.GetVolume()
}

func (w *world) server(name string) string { return w.cloud.ServerID(name) }

func publishRequest(volumeID, nodeID string) *csi.ControllerPublishVolumeRequest {
	return &csi.ControllerPublishVolumeRequest{VolumeId: volumeID, NodeId: nodeID, VolumeCapability: singleWriter}
}

func (w *world) publish(volumeID, server string) map[string]string {
	w.Helper()
	resp, err := w.ControllerPublishVolume(w.within(time.Minute), publishRequest(volumeID, w.server(server)))
	if err != nil {
		w.Fatal(err)
	}
	return resp.GetPublishContext()
}

func (w *world) unpublish(volumeID, server string) {
	w.Helper()
	req := &csi.ControllerUnpublishVolumeRequest{VolumeId: volumeID}
	if server != "" {
		req.NodeId = w.server(server)
	}
	if _, err := w.ControllerUnpublishVolume(w.within(time.Minute), req); err != nil {
		w.Fatal(err)
	}
}

func (w *world) remove(volumeID string) {
	w.Helper()
	if _, err := w.DeleteVolume(w.within(time.Minute), &csi.DeleteVolumeRequest{VolumeId: volumeID}); err != nil {
		w.Fatal(err)
	}
}

func expandRequest(volumeID string, sizeGiB int64) *csi.ControllerExpandVolumeRequest {
	return &csi.ControllerExpandVolumeRequest{VolumeId: volumeID, CapacityRange: &csi.CapacityRange{RequiredBytes: sizeGiB * gib}}
}

func (w *world) snapshot(name, volumeID string) *csi.Snapshot {
	w.Helper()
	resp, err := w.CreateSnapshot(w.within(time.Minute), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volumeID})
	if err != nil {
		w.Fatal(err)
	}
	return resp.GetSnapshot()
}

func (w *world) faults(faults ...admin.Fault) {
	w.Helper()
	if err := w.admin.SetFaults(w.Context(), faults...); err != nil {
		w.Fatal(err)
	}
}

func (w *world) dump() admin.Dump {
	w.Helper()
	d, err := w.admin.Dump(context.WithoutCancel(w.Context()))
	if err != nil {
		w.Fatal(err)
	}
	return d
}

func (w *world) resetRequests() {
	w.Helper()
	if err := w.admin.ResetRequests(w.Context()); err != nil {
		w.Fatal(err)
	}
}

func (w *world) requests() admin.Requests {
	w.Helper()
	r, err := w.admin.Requests(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// spent returns the requests since the last reset but for polls, in order.
func (w *world) spent(polls ...string) string {
	w.Helper()
	var parts []string
	for op, n := range w.requests().Operations {
		if !slices.Contains(polls, op) {
			parts = append(parts, fmt.Sprintf("%s:%d", op, n))
		}
	}
	slices.Sort(parts)
	w.resetRequests()
	return strings.Join(parts, " ")
}

// spentCreating is spent for some calls of CreateVolume. Each lists once, to find its
// earlier attempt; the other lists are the polls of those that make a volume, which
// look for others of its name: three each at most.
func (w *world) spentCreating(calls, made int64) string {
	w.Helper()
	ops := w.requests().Operations
	if n := ops["volume.list"] - calls; n < made || n > 3*made {
		w.Errorf("%d lists for %d calls that make %d volumes", ops["volume.list"], calls, made)
	}
	return w.spent("volume.list")
}

func wantCode(t *testing.T, err error, want codes.Code, words ...string) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("got %v: %v, want %v", got, err, want)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("%q does not say %q", err, word)
		}
	}
}
