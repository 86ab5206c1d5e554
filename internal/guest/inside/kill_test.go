package inside

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

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/cinder-csi/cinder-csi/internal/guest/agent"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

// callVariable has this binary make one call and die, as a killed node plugin
// does.
const callVariable = agent.Inside + "_CALL"

// call is what the child is to do. It kills itself after the first step that is
// not among those after which it has died before.
type call struct {
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`
	Died    []string        `json:"died"`
}

// runCall is the child's main function.
func runCall(encoded string) int {
	var c call
	if err := json.Unmarshal([]byte(encoded), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s := newServer(node.Config{Step: func(done string) {
		if !slices.Contains(c.Died, done) {
			fmt.Fprint(os.Stderr, done)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := dispatch(ctx, s, c); err != nil {
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

// killed has a call killed after each of its steps, until it lives to its end. It
// returns the steps.
func killed(t testing.TB, method string, req proto.Message) (died []string) {
	t.Helper()
	request, err := protojson.Marshal(req)
	must(t, err)
	for range 20 {
		encoded, err := json.Marshal(call{Method: method, Request: request, Died: died})
		must(t, err)
		cmd := exec.CommandContext(patient(t), "/init")
		cmd.Env = append(os.Environ(), callVariable+"="+string(encoded))
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Logf("%s: killed after %q", method, died)
			return died
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%s in a child: %v: %s", method, err, out)
		}
		died = append(died, string(out))
	}
	t.Fatalf("%s never ends", method)
	return nil
}

// A node plugin is killed after every single step of every call, and the call
// repeated until it succeeds: on real disks, with growth while it is mounted, and
// with encryption.

func TestANodePluginIsKilledWithExt4(t *testing.T) {
	newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).liveKilled(t)
}

func TestANodePluginIsKilledWithXFS(t *testing.T) {
	newVolume(t, wire.VirtioSCSI, small, filesystemOf("xfs")).liveKilled(t)
}

func TestANodePluginIsKilledWithAnEncryptedVolume(t *testing.T) {
	newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).encrypted(t).liveKilled(t)
}

func TestANodePluginIsKilledWithAnEncryptedBlockVolume(t *testing.T) {
	newVolume(t, wire.VirtioBlk, 64*mib, rawBlock()).encrypted(t).liveKilled(t)
}

func (v *volume) liveKilled(t testing.TB) {
	t.Helper()
	disk := v.attach(t)
	size := disk.Size
	steps := killed(t, "stage", v.stageRequest())
	for _, step := range v.steps() {
		if !slices.Contains(steps, step) {
			t.Errorf("it was never killed after %q", step)
		}
	}
	killed(t, "publish", v.publishRequest())
	content := v.write(t)
	resize(t, v.disk.Image, 2*size, 0)
	killed(t, "expand", v.expandRequest(2*size))
	if v.context == nil {
		v.wantSize(t, 2*size)
	} else {
		v.wantOpen(t, disk)
		v.wantUsage(t, 2*size-header)
	}
	v.wantContent(t, content)
	killed(t, "unpublish", v.unpublishRequest())
	killed(t, "unstage", v.unstageRequest())
	wantNotMounted(t, v)
	v.wantClosed(t)
	v.use(t)
	v.wantContent(t, content)
	v.release(t)
}

// steps are those that the first stage of a volume must have at least.
func (v *volume) steps() []string {
	steps := []string{"found"}
	if v.context != nil {
		steps = append(steps, "encrypted", "opened")
	}
	if v.capability.GetBlock() == nil {
		steps = append(steps, "probed", "formatted", "mounted")
	}
	return steps
}
