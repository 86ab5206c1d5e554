package driver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
)

const gib = int64(1) << 30

// patience bounds what a sidecar would repeat until it works.
const patience = 3 * time.Minute

// rig is the driver as a program, with the cloud it works for.
type rig struct {
	*testing.T
	csi.ControllerClient
	cloud   *stack.Cloud
	member  *api.Session
	admin   *api.Session
	stack   *stack.Stack
	metrics string
}

// start runs the controller with a configuration file of the cloud's folder.
func start(t *testing.T, conf string, more ...string) *rig {
	t.Helper()
	cloud, err := stack.Load(stack.Dir())
	if err != nil {
		if os.Getenv("CINDER_CSI_OPENSTACK_REQUIRED") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	r := &rig{T: t, cloud: cloud}
	r.stack, err = stack.New(stack.Dir(), io.Discard)
	r.must(err)
	r.member, err = api.Login(t.Context(), cloud.Identity, cloud.Member)
	r.must(err)
	r.admin, err = api.Login(t.Context(), cloud.Identity, cloud.Admin)
	r.must(err)
	dir := t.TempDir()
	address := free(t)
	r.metrics = "http://" + address + "/metrics"
	socket := filepath.Join(dir, "csi.sock")
	run(t, dir, append([]string{
		"--endpoint=unix://" + socket, "--provide-node-service=false", "--cluster=real", "--http-endpoint=" + address,
		"--cloud-config=" + filepath.Join(stack.Dir(), conf),
	}, more...)...)
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	r.must(err)
	t.Cleanup(func() { _ = conn.Close() })
	r.ControllerClient = csi.NewControllerClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err = csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
	r.must(err)
	return r
}

// run starts the program and ends it with the test; its log is shown when the
// test failed.
func run(t *testing.T, dir string, args ...string) {
	t.Helper()
	program := filepath.Join(dir, "cinder-csi-plugin")
	build := exec.Command("go", "build", "-o", program, "./cmd/cinder-csi-plugin")
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the driver: %v\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "driver.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		if err != nil {
			t.Errorf("the driver ended with %v", err)
		}
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("the driver's log:\n%s", text)
		}
		_ = log.Close()
	})
}

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// requests returns how many calls to the cloud the driver has made, by kind.
func (r *rig) requests() map[string]int {
	r.Helper()
	resp, err := http.Get(r.metrics)
	r.must(err)
	defer func() { _ = resp.Body.Close() }()
	counts := map[string]int{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), `openstack_api_requests_total{request="`)
		name, value, cut := strings.Cut(rest, `"} `)
		if ok && cut {
			n, err := strconv.ParseFloat(value, 64)
			r.must(err)
			counts[name] = int(n)
		}
	}
	return counts
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
