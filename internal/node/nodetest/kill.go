// Package nodetest kills a node plugin after every step of a call: by SIGKILL, in
// a process of its own, so that nothing is tidied up.
package nodetest

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

	"github.com/cinder-csi/cinder-csi/internal/node"
)

const (
	// variable tells a test binary that it is the process to kill.
	variable = "CINDER_CSI_NODE_TEST_CALL"
	// patience bounds one call.
	patience = time.Minute
	// most is more steps than any call has.
	most = 20
)

// call is what the child is to do.
type call struct {
	// DevDir is the device directory for Child's server.
	DevDir  string          `json:"devDir"`
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`
	// Died are the steps after which it has been killed before: the child kills
	// itself after the first one that is not among them.
	Died []string `json:"died"`
}

// IsChild tells whether this process is one that Killed has started. Its main
// function then is Child.
func IsChild() bool { return os.Getenv(variable) != "" }

// Child makes the one call that this process is for, on a server with the steps
// that it is given. It returns the exit status.
func Child(server func(devDir string, step func(string)) *node.Server) int {
	var c call
	if err := json.Unmarshal([]byte(os.Getenv(variable)), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s := server(c.DevDir, func(done string) {
		if !slices.Contains(c.Died, done) {
			fmt.Fprint(os.Stderr, done)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
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

// Killed has a call killed after each of its steps, until it lives to its end. In
// between it is as if the node plugin had just been started again. The program is
// a test binary whose main function asks IsChild. It returns the steps.
func Killed(t testing.TB, program, devDir, method string, req proto.Message) (died []string) {
	t.Helper()
	request, err := protojson.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	for range most {
		step := once(t, program, call{DevDir: devDir, Method: method, Request: request, Died: died})
		if step == "" {
			t.Logf("%s: killed after %q", method, died)
			return died
		}
		died = append(died, step)
	}
	t.Fatalf("%s never ends", method)
	return nil
}

// once makes a call and returns the step after which it was killed, empty if it
// lived to its end.
func once(t testing.TB, program string, c call) (step string) {
	t.Helper()
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	// The race detector would have every process wait a second before it ends.
	cmd.Env = append(os.Environ(), variable+"="+string(encoded), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return ""
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%s in a child: %v: %s", c.Method, err, out)
	}
	return string(out)
}
