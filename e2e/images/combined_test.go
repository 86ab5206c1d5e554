package images

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// TestTheCombinedImageServesEachRole: the manifests of the reference driver name one
// image, and begin the arguments with the program.
func TestTheCombinedImageServesEachRole(t *testing.T) {
	image := built(t, "combined")
	root, files := rootOf(t, image)
	_, forNode := rootOf(t, built(t, "node"))
	slices.Sort(files)
	slices.Sort(forNode)
	if !slices.Equal(files, forNode) {
		t.Errorf("it has %q, but the node's image %q", files, forNode)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "" {
		t.Errorf("it runs as %q: the node role needs root", config.Config.User)
	}
	// Nobody answers at that address: the plugin starts without its cloud.
	conf := filepath.Join(root, "etc/config/cloud.conf")
	const cloud = "[Global]\nauth-url=http://127.0.0.1:1/v3\nusername=u\npassword=p\ntenant-name=t\ndomain-name=Default\n"
	if err := errors.Join(os.MkdirAll(filepath.Dir(conf), 0o755), os.MkdirAll(filepath.Join(root, "csi"), 0o755), os.WriteFile(conf, []byte(cloud), 0o600)); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(config.Config.Env[0], "PATH=")
	for _, test := range []struct {
		name             string
		args             []string
		controller, node bool
	}{
		{"both, as the manifests' controller", []string{"--cluster=kubernetes"}, true, true},
		{"the controller, as the chart's", []string{"--cluster=kubernetes", "--provide-node-service=false"}, true, false},
		{"the node", []string{"--provide-controller-service=false"}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append(slices.Clone(config.Config.Entrypoint), "/bin/cinder-csi-plugin", "--endpoint=unix://csi/csi.sock", "--cloud-config=/etc/config/cloud.conf", "--v=1")
			serves(t, root, path, append(args, test.args...), test.controller, test.node)
		})
	}
}

// serves starts the plugin of an image, asks which roles it serves, and stops it.
func serves(t *testing.T, root, path string, args []string, controller, node bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var log strings.Builder
	cmd := inside(ctx, root, path, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("it ends with %v, its log is\n%s", err, log.String())
		}
	}()
	conn, err := grpc.NewClient("unix:"+filepath.Join(root, "csi/csi.sock"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = csi.NewControllerClient(conn).ControllerGetCapabilities(ctx, &csi.ControllerGetCapabilitiesRequest{})
	served(t, "controller", controller, err)
	_, err = csi.NewNodeClient(conn).NodeGetCapabilities(ctx, &csi.NodeGetCapabilitiesRequest{})
	served(t, "node", node, err)
}

func served(t *testing.T, role string, want bool, err error) {
	t.Helper()
	if want && err != nil || !want && status.Code(err) != codes.Unimplemented {
		t.Errorf("the role %s is to be served: %t, but the answer is %v", role, want, err)
	}
}
