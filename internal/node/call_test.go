package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
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
	// Died are the steps after which it has been killed before: the child kills
	// itself after the first one that is not among them.
	Died []string `json:"died"`
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
		Step: func(done string) {
			if !slices.Contains(c.Died, done) {
				fmt.Fprint(os.Stderr, done)
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		},
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

// inChild makes a call in a process of its own that is killed after its first
// step that is none of those. It returns the step, empty if it lived to its end.
func (r *rig) inChild(method string, req proto.Message, died []string) (step string) {
	r.t.Helper()
	request, err := protojson.Marshal(req)
	must(r.t, err)
	encoded, err := json.Marshal(call{DevDir: r.dev, Method: method, Request: request, Died: died})
	must(r.t, err)
	cmd := exec.CommandContext(r.context(), os.Args[0])
	// The race detector would have every process wait a second before it ends.
	cmd.Env = append(os.Environ(), callVariable+"="+string(encoded), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return ""
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		r.t.Fatalf("%s in a child: %v: %s", method, err, out)
	}
	return string(out)
}

// killed has a call killed after each of its steps, until it lives to its end. In
// between it is as if the node plugin had just been started again.
func (r *rig) killed(method string, req proto.Message) {
	r.t.Helper()
	var died []string
	for range 20 {
		step := r.inChild(method, req, died)
		if step == "" {
			r.t.Logf("%s: killed after %q", method, died)
			return
		}
		died = append(died, step)
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
