package demo

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// tinyPlugin is a CSI plugin whose volumes are directories: enough to see
// what the orchestrator asks for and what it makes of the answers.
type tinyPlugin struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer

	mu        sync.Mutex
	notReady  int // so many probes
	notCut    int // so many snapshots that are not ready yet
	zone      string
	keepPaths bool // does not remove the target path
	created   []*csi.CreateVolumeRequest
	snapshots int
}

func (p *tinyPlugin) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notReady--
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(p.notReady < 0)}, nil
}

func (p *tinyPlugin) CreateVolume(_ context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.created = append(p.created, req)
	if len(p.created) == 1 {
		return nil, status.Error(codes.Unavailable, "the answer is lost")
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: "v-" + req.GetName(), CapacityBytes: req.GetCapacityRange().GetRequiredBytes(),
		AccessibleTopology: []*csi.Topology{{Segments: map[string]string{topologyKey: p.zone}}},
	}}, nil
}

func (p *tinyPlugin) CreateSnapshot(_ context.Context, req *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshots++
	return &csi.CreateSnapshotResponse{Snapshot: &csi.Snapshot{
		SnapshotId: "s-" + req.GetName(), ReadyToUse: p.snapshots > p.notCut,
	}}, nil
}

func (p *tinyPlugin) NodePublishVolume(_ context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	return &csi.NodePublishVolumeResponse{}, os.Mkdir(req.GetTargetPath(), 0o700)
}

func (p *tinyPlugin) NodeUnpublishVolume(_ context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if p.keepPaths {
		return &csi.NodeUnpublishVolumeResponse{}, nil
	}
	return &csi.NodeUnpublishVolumeResponse{}, os.Remove(req.GetTargetPath())
}

// serve runs the plugin and returns an orchestrator and a node that talk to it.
func serve(t *testing.T, p *tinyPlugin) (*orchestrator, *node) {
	t.Helper()
	// Not below t.TempDir: a socket's path has at most 107 bytes.
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "csi.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, p)
	csi.RegisterControllerServer(server, p)
	csi.RegisterNodeServer(server, p)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := dial("plugin", socket, (&gun{}).intercept("plugin"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.conn.Close()
		server.Stop()
		<-served
		_ = os.RemoveAll(dir)
	})
	if err := conn.awaitReady(t.Context(), quick()); err != nil {
		t.Fatal(err)
	}
	return &orchestrator{controller: csi.NewControllerClient(conn.conn), patience: quick()},
		&node{name: Node1, client: csi.NewNodeClient(conn.conn), dir: filepath.Join(dir, Node1)}
}

func TestAPluginIsAskedUntilItIsReady(t *testing.T) {
	p := &tinyPlugin{notReady: 3}
	serve(t, p)
	if p.notReady >= 0 {
		t.Error("taken for ready too early")
	}
}

func TestALostAnswerToCreateIsAskedForAgainByTheSameName(t *testing.T) {
	p := &tinyPlugin{zone: zone1}
	o, _ := serve(t, p)
	v, err := o.create(t.Context(), "pvc-1", "xfs", gib, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v.id != "v-pvc-1" || v.size != gib || v.block() {
		t.Errorf("got %+v", v)
	}
	for _, req := range p.created {
		zone := req.GetAccessibilityRequirements().GetPreferred()[0].GetSegments()[topologyKey]
		if req.GetName() != "pvc-1" || zone != zone1 || req.GetVolumeCapabilities()[0].GetMount().GetFsType() != "xfs" {
			t.Errorf("asked for %v", req)
		}
	}
	if len(p.created) != 2 {
		t.Errorf("asked %d times, want 2", len(p.created))
	}
}

func TestAVolumeInAnotherZoneIsNotAccepted(t *testing.T) {
	o, _ := serve(t, &tinyPlugin{zone: zone2})
	_, err := o.create(t.Context(), "pvc-1", Block, gib, nil)
	if err == nil || !strings.Contains(err.Error(), zone2) {
		t.Errorf("got %v, want an error that names the zone", err)
	}
}

func TestASnapshotIsAskedForUntilItIsReady(t *testing.T) {
	p := &tinyPlugin{notCut: 2}
	o, _ := serve(t, p)
	id, err := o.snapshot(t.Context(), &volume{id: "v"}, "snapshot-1")
	if err != nil || id != "s-snapshot-1" || p.snapshots != 3 {
		t.Errorf("got %q after %d calls, %v", id, p.snapshots, err)
	}
}

func TestATargetPathThatIsLeftIsNoticed(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		o, n := serve(t, &tinyPlugin{keepPaths: keeps})
		v := &volume{id: "v", name: "pvc-1", capability: capabilityFor("xfs")}
		if err := o.publish(t.Context(), v, n); err != nil {
			t.Fatal(err)
		}
		err := o.unpublish(t.Context(), v, n)
		if keeps != (err != nil && strings.Contains(err.Error(), "left its target path")) {
			t.Errorf("keeps its path: %v, got %v", keeps, err)
		}
		if _, statErr := os.Stat(filepath.Dir(n.target(v))); !keeps && !os.IsNotExist(statErr) {
			t.Errorf("the parent of the target path is left: %v", statErr)
		}
	}
}

func TestASmallerVolumeThanAskedForIsNotAccepted(t *testing.T) {
	o, _ := serve(t, &tinyPlugin{zone: zone1})
	o.controller = shrinking{o.controller}
	if _, err := o.create(t.Context(), "pvc-1", "ext4", gib, nil); err == nil {
		t.Error("accepted")
	}
}

// shrinking answers with half of the volume.
type shrinking struct{ csi.ControllerClient }

func (s shrinking) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest, opts ...grpc.CallOption) (*csi.CreateVolumeResponse, error) {
	answer, err := s.ControllerClient.CreateVolume(ctx, req, opts...)
	if err == nil {
		answer.Volume.CapacityBytes /= 2
	}
	return answer, err
}
