package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/api"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack/stacktest"
)

const gib = int64(1) << 30

// patience bounds what a sidecar would repeat until it works.
const patience = 5 * time.Minute

// rig is the driver as a program, with the cloud it works for.
type rig struct {
	*testing.T
	csi.ControllerClient
	cloud  *stack.Cloud
	member *api.Session
	admin  *api.Session
	stack  *stack.Stack
	// socket is where the driver answers.
	socket string
	// gateway is what the driver sees of the cloud, where there is one between.
	gateway *gateway
}

// start runs the controller with a configuration file of the cloud's folder.
func start(t *testing.T, conf string, more ...string) *rig {
	t.Helper()
	r := find(t)
	r.drive(filepath.Join(stack.Dir(), conf), more...)
	return r
}

// startBehindGateway runs the controller with a gateway between it and the
// cloud.
func startBehindGateway(t *testing.T, more ...string) *rig {
	t.Helper()
	r := find(t)
	r.gateway = newGateway(t, r.cloud, r.member)
	r.drive(r.gateway.conf, more...)
	return r
}

// find returns the cloud that runs, without a driver.
func find(t *testing.T) *rig {
	t.Helper()
	cloud := stacktest.Need(t)
	r := &rig{T: t, cloud: cloud}
	var err error
	r.stack, err = stack.New(stack.Dir(), io.Discard)
	r.must(err)
	r.member, err = api.Login(t.Context(), cloud.Identity, cloud.Member)
	r.must(err)
	r.admin, err = api.Login(t.Context(), cloud.Identity, cloud.Admin)
	r.must(err)
	return r
}

// drive runs the controller with a configuration.
func (r *rig) drive(conf string, more ...string) {
	r.Helper()
	dir := r.TempDir()
	r.socket = filepath.Join(dir, "csi.sock")
	run(r.T, dir, append([]string{
		"--endpoint=unix://" + r.socket, "--provide-node-service=false", "--cluster=real", "--cloud-config=" + conf,
	}, more...)...)
	conn, err := grpc.NewClient("unix:"+r.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	r.must(err)
	r.Cleanup(func() { _ = conn.Close() })
	r.ControllerClient = csi.NewControllerClient(conn)
	// It listens before it is connected to the cloud.
	r.again("connect to the cloud", func(ctx context.Context) error {
		_, err := r.ListVolumes(ctx, &csi.ListVolumesRequest{MaxEntries: 1})
		return err
	})
}

// program builds the driver, once for all tests, into the cloud's folder.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(stack.Dir(), "bin", "cinder-csi-plugin")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "./cmd/cinder-csi-plugin")
	build.Dir = "../../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the driver: %w: %s", err, out)
	}
	return path, nil
})

// run starts the program and ends it with the test; its log is shown when the
// test failed.
func run(t *testing.T, dir string, args ...string) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "driver.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	ended, err := stacktest.Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			t.Errorf("the driver ended with %v", err)
		}
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("the driver's log:\n%s", text)
		}
		_ = log.Close()
	})
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// again repeats a call as a sidecar does, until it succeeds or is final.
func (r *rig) again(what string, call func(ctx context.Context) error) {
	r.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Second) {
		ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
		err := call(ctx)
		cancel()
		if err == nil {
			return
		}
		switch status.Code(err) {
		case codes.Aborted, codes.DeadlineExceeded, codes.Unavailable, codes.Canceled, codes.Internal, codes.FailedPrecondition, codes.ResourceExhausted:
		default:
			r.Fatalf("%s: %v", what, err)
		}
		if time.Now().After(deadline) {
			r.Fatalf("%s: not within %s: %v", what, patience, err)
		}
	}
}

// mode is how a volume is used.
func mode(multi bool) *csi.VolumeCapability {
	if multi {
		return &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER},
		}
	}
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "ext4"}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

// request is a volume of one GiB.
func request(name string) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: gib}, Parameters: map[string]string{},
		VolumeCapabilities: []*csi.VolumeCapability{mode(false)},
	}
}

// create makes a volume, and sees to its end.
func (r *rig) create(req *csi.CreateVolumeRequest) string {
	r.Helper()
	var id string
	r.again("create "+req.Name, func(ctx context.Context) error {
		got, err := r.CreateVolume(ctx, req)
		id = got.GetVolume().GetVolumeId()
		return err
	})
	r.Cleanup(func() { r.remove(id) })
	return id
}

// remove detaches and deletes a volume, past the end of the test's context.
func (r *rig) remove(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ctx.Err() == nil {
		_, err := r.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: id})
		if err == nil {
			_, err = r.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		}
		if err == nil {
			return
		}
		if status.Code(err) == codes.FailedPrecondition {
			// An operator's help: the test made it so.
			_, _ = r.admin.Volume(ctx, "66", http.MethodPost, "/volumes/"+id+"/action", map[string]any{"os-reset_status": map[string]any{"status": "available"}})
		}
		time.Sleep(time.Second)
	}
	r.Errorf("volume %s could not be removed", id)
}

func (r *rig) publish(ctx context.Context, id, server string, multi bool) error {
	_, err := r.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: r.cloud.Servers[server], VolumeCapability: mode(multi)})
	return err
}

func (r *rig) unpublish(ctx context.Context, id, server string) error {
	_, err := r.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: r.cloud.Servers[server]})
	return err
}

// attach publishes as a sidecar does: again where the driver asks for that.
func (r *rig) attach(id, server string, multi bool) {
	r.Helper()
	r.must(insist(func() error { return r.publish(r.Context(), id, server, multi) }))
}

// detach unpublishes in the same way.
func (r *rig) detach(id, server string) {
	r.Helper()
	r.must(insist(func() error { return r.unpublish(r.Context(), id, server) }))
}

func (r *rig) expand(ctx context.Context, id string, size int64) error {
	_, err := r.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
		VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: size}, VolumeCapability: mode(false),
	})
	return err
}

// snapshot makes a snapshot, or a backup where the parameters say so, and sees
// to its end.
func (r *rig) snapshot(name, volume string, parameters map[string]string) string {
	r.Helper()
	var id string
	r.again("snapshot "+name, func(ctx context.Context) error {
		got, err := r.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume, Parameters: parameters})
		if err == nil && !got.GetSnapshot().GetReadyToUse() {
			err = status.Error(codes.Aborted, "not ready to use")
		}
		id = got.GetSnapshot().GetSnapshotId()
		return err
	})
	r.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for err := errors.New("not asked"); err != nil && ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
			_, err = r.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id})
		}
	})
	return id
}

// seen returns Cinder's status, size and type of a volume.
func (r *rig) seen(id string) (state string, size int, kind string) {
	r.Helper()
	got, err := r.member.Volume(r.Context(), "66", http.MethodGet, "/volumes/"+id, nil)
	r.must(err)
	if got.Status == http.StatusNotFound {
		return "gone", 0, ""
	}
	var answer struct {
		Volume struct {
			Status      string
			Size        int
			Type        string `json:"volume_type"`
			Attachments []any
		}
	}
	r.must(got.Into(&answer))
	return fmt.Sprintf("%s/%d", answer.Volume.Status, len(answer.Volume.Attachments)), answer.Volume.Size, answer.Volume.Type
}

// is checks what Cinder says.
func (r *rig) is(id, state string, size int) {
	r.Helper()
	if got, n, _ := r.seen(id); got != state || n != size {
		r.Errorf("volume %s is %s with %d GiB, want %s with %d", id, got, n, state, size)
	}
}

// becomes waits until Cinder says so.
func (r *rig) becomes(id, state string, size int) {
	r.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if got, n, _ := r.seen(id); got == state && n == size {
			return
		}
	}
	r.is(id, state, size)
}

// boot makes a server for this test, without a guest, and returns its name.
func (r *rig) boot(name, zone string) string {
	r.Helper()
	got, err := r.member.Compute(r.Context(), "93", http.MethodPost, "/servers", map[string]any{"server": map[string]any{
		"name": name, "availability_zone": zone, "imageRef": r.cloud.Image, "flavorRef": r.cloud.Flavor, "networks": "none",
	}})
	r.must(err)
	var made struct{ Server struct{ ID, Status string } }
	r.must(got.Into(&made))
	address := "/servers/" + made.Server.ID
	r.Cleanup(func() {
		_, _ = r.member.Compute(context.Background(), "60", http.MethodDelete, address, nil) // the test may have deleted it
	})
	r.cloud.Servers[name] = made.Server.ID
	for deadline := time.Now().Add(patience); made.Server.Status != "ACTIVE"; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("server %s is %s", name, made.Server.Status)
		}
		got, err := r.member.Compute(r.Context(), "60", http.MethodGet, address, nil)
		r.must(err)
		r.must(got.Into(&made))
	}
	return name
}
