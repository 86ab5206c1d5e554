package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

// callVariable names the environment variable by which a test has this binary
// make one call and die, as a killed node plugin does: by SIGKILL, so that
// nothing is tidied up.
const callVariable = "CINDER_CSI_NODE_TEST_CALL"

// call is what the child is to do.
type call struct {
	DevDir  string          `json:"devDir"`
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`
	// DieAfter is the number of the step after which the child kills itself.
	DieAfter int `json:"dieAfter"`
}

// runCall is the child's main function; its exit status is 0 for success.
func runCall(encoded string) int {
	var c call
	if err := json.Unmarshal([]byte(encoded), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	server := node.New(node.Config{
		Finder: blockdev.Loop{DevDir: c.DevDir}, FS: filesystem.New(filesystem.Options{}),
	})
	steps := 0
	node.SetStep(server, func(done string) {
		if steps++; steps == c.DieAfter {
			fmt.Fprintf(os.Stderr, "killed after %q\n", done)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := dispatch(ctx, server, c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func dispatch(ctx context.Context, s *node.Server, c call) error {
	switch c.Method {
	case "stage":
		return invoke(ctx, c.Request, &csi.NodeStageVolumeRequest{}, s.NodeStageVolume)
	case "publish":
		return invoke(ctx, c.Request, &csi.NodePublishVolumeRequest{}, s.NodePublishVolume)
	case "expand":
		return invoke(ctx, c.Request, &csi.NodeExpandVolumeRequest{}, s.NodeExpandVolume)
	case "unpublish":
		return invoke(ctx, c.Request, &csi.NodeUnpublishVolumeRequest{}, s.NodeUnpublishVolume)
	case "unstage":
		return invoke(ctx, c.Request, &csi.NodeUnstageVolumeRequest{}, s.NodeUnstageVolume)
	}
	return fmt.Errorf("no such method: %s", c.Method)
}

func invoke[Req proto.Message, Resp any](ctx context.Context, data []byte, req Req, f func(context.Context, Req) (Resp, error)) error {
	if err := protojson.Unmarshal(data, req); err != nil {
		return err
	}
	_, err := f(ctx, req)
	return err
}

// inChild makes a call in a process of its own that is killed after that many
// steps. It reports whether the process lived to its end.
func (r *rig) inChild(method string, req proto.Message, dieAfter int) (survived bool) {
	r.t.Helper()
	request, err := protojson.Marshal(req)
	must(r.t, err)
	encoded, err := json.Marshal(call{DevDir: r.dev, Method: method, Request: request, DieAfter: dieAfter})
	must(r.t, err)
	cmd := exec.CommandContext(r.context(), os.Args[0])
	// The race detector would have every process wait a second before it ends.
	cmd.Env = append(os.Environ(), callVariable+"="+string(encoded), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return true
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		r.t.Fatalf("%s in a child: %v: %s", method, err, out)
	}
	r.t.Logf("%s: %s", method, out)
	return false
}

// killed makes a call that is killed after its first step, one that is killed
// after its second, and so on until one lives to its end. In between it is as
// if the node plugin had just been started again.
func (r *rig) killed(method string, req proto.Message) {
	r.t.Helper()
	for dieAfter := 1; dieAfter < 20; dieAfter++ {
		if r.inChild(method, req, dieAfter) {
			return
		}
	}
	r.t.Fatalf("%s never ends", method)
}

// TestANodePluginThatIsKilledContinues kills the node plugin after every single
// step of every call and repeats the call until it succeeds.
func TestANodePluginThatIsKilledContinues(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, filesystemOf(fsType))
			r.killed("stage", v.stageRequest())
			r.killed("publish", v.publishRequest())
			file := v.target + "/file"
			must(t, os.WriteFile(file, []byte("precious"), 0o600))
			if fsType != "ext4" || filesystem.CanGrowOnline("ext4") {
				r.grow(v, 2*small)
				r.killed("expand", v.expandRequest(2*small))
				r.checkUsage(v, 2*small)
			}
			if n := len(r.mounts()); n != 2 {
				t.Errorf("%d mounts, want one of staging and one of the target", n)
			}
			r.killed("unpublish", v.unpublishRequest())
			r.killed("unstage", v.unstageRequest())
			r.wantGone(v.target)
			if m := r.mounts(); len(m) != 0 {
				t.Errorf("left mounted: %+v", m)
			}

			// Grown while it is away: the next stage grows the filesystem.
			r.grow(v, 3*small)
			r.killed("stage", v.stageRequest())
			r.killed("publish", v.publishRequest())
			r.checkUsage(v, 3*small)
			if got, err := os.ReadFile(file); err != nil || string(got) != "precious" {
				t.Errorf("read %q, %v", got, err)
			}
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
			must(t, r.store.Detach(r.name, v.id))
		})
	}
	t.Run("block", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		v := r.attach(small, rawBlock())
		r.killed("stage", v.stageRequest())
		r.killed("publish", v.publishRequest())
		if n := r.mountedAt(v.target); n != 1 {
			t.Errorf("the device is bound %d times, want once", n)
		}
		r.grow(v, 2*small)
		r.killed("expand", v.expandRequest(2*small))
		r.killed("unpublish", v.unpublishRequest())
		r.killed("unstage", v.unstageRequest())
		r.wantGone(v.target)
		must(t, r.store.Detach(r.name, v.id))
	})
}
