package sanity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack/stacktest"
)

// environment is the controller here and the node plugin in a guest.
type environment struct {
	dir        string
	controller string
	guest      *guest.Guest
	driver     *exec.Cmd
	ended      <-chan error
}

func start(ctx context.Context) (_ *environment, err error) {
	dir, err := os.MkdirTemp("", "cinder-csi-sanity-")
	if err != nil {
		return nil, err
	}
	e := &environment{dir: dir, controller: filepath.Join(dir, "controller.sock")}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.stop())
		}
	}()
	program := filepath.Join(dir, "cinder-csi-plugin")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/cinder-csi-plugin")
	build.Dir = "../../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the driver: %w: %s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "driver.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	e.driver = exec.Command(program, "--endpoint=unix://"+e.controller, "--provide-node-service=false", "--cluster=sanity",
		"--cloud-config="+filepath.Join(stack.Dir(), "cloud.conf"))
	e.driver.Stdout, e.driver.Stderr = log, log
	if e.ended, err = stacktest.Launch(e.driver); err != nil {
		e.driver = nil
		return nil, err
	}
	if e.guest, err = nodeOf(ctx); err != nil {
		return nil, err
	}
	return e, errors.Join(e.ready(ctx, e.controller), e.ready(ctx, e.guest.Socket()))
}

// ready waits until a plugin answers.
func (e *environment) ready(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
	// A controller listens before it is connected to the cloud, and the suite asks once.
	for more := socket == e.controller; err == nil && more; time.Sleep(100 * time.Millisecond) {
		_, err = csi.NewControllerClient(conn).ListVolumes(ctx, &csi.ListVolumesRequest{MaxEntries: 1})
		if more = status.Code(err) == codes.Unavailable && ctx.Err() == nil; more {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("%s does not answer: %w (logs are in %s)", socket, err, e.dir)
	}
	return nil
}

// stop ends the controller; its log stays when it ended badly.
func (e *environment) stop() error {
	if e.driver != nil {
		err := e.driver.Process.Signal(syscall.SIGTERM)
		if err := errors.Join(err, <-e.ended); err != nil {
			return fmt.Errorf("the controller ended with %w (its log is in %s)", err, e.dir)
		}
	}
	return os.RemoveAll(e.dir)
}

// nodeOf boots the guests and returns the one that the suite's volumes are
// attached to.
func nodeOf(ctx context.Context) (*guest.Guest, error) {
	s, err := stack.New(stack.Dir(), os.Stdout)
	if err != nil {
		return nil, err
	}
	if err := s.Guests(ctx); err != nil {
		return nil, err
	}
	cloud, err := stack.Load(stack.Dir())
	if err != nil {
		return nil, err
	}
	g := s.Guest(cloud.Guests["guest1"])
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return g, g.Await(ctx)
}

// patience bounds a command in the guest, whose processor is emulated.
const patience = time.Minute

func (e *environment) do(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return e.guest.Exec(ctx, args...)
}

func (e *environment) makeDir(dir string) (string, error) {
	_, err := e.do("mkdir", "-p", dir)
	return dir, err
}

// removeDir removes what the driver should have emptied, and refuses where
// something is still mounted.
func (e *environment) removeDir(dir string) error {
	_, err := e.do("sh", "-c", `if grep -F " $1" /proc/mounts; then exit 1; fi; rm -rf "$1"`, "sh", dir)
	return err
}

func (e *environment) checkPath(name string) (sanity.PathKind, error) {
	out, err := e.do("sh", "-c", `if [ -d "$1" ]; then echo dir; elif [ -f "$1" ]; then echo file; elif [ -e "$1" ]; then echo other; else echo none; fi`, "sh", name)
	if err != nil {
		return "", err
	}
	switch strings.TrimSpace(out) {
	case "dir":
		return sanity.PathIsDir, nil
	case "file":
		return sanity.PathIsFile, nil
	case "none":
		return sanity.PathIsNotFound, nil
	}
	return sanity.PathIsOther, nil
}
