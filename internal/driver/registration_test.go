package driver_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/cinder-csi/cinder-csi/internal/driver"
)

func dial(t *testing.T, path string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// shortDir is a directory whose sockets have names that the kernel takes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "drv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestTheKubeletReachesTheNodePluginThatRegistersItself(t *testing.T) {
	cloud, _ := startCloud(t)
	dir := shortDir(t)
	// The kubelet's view of the CSI socket is a path of its own.
	const seen = "/var/lib/kubelet/plugins/cinder.csi.openstack.org/csi.sock"
	address := freeAddress(t)
	s := start(t, driver.Config{
		HTTPEndpoint: address,
		Node:         true, MetadataURL: cloud.MetadataURL("node1"), DevelopmentDeviceDir: cloud.DeviceDir("node1"),
		KubeletRegistrationPath: seen, PluginRegistrationPath: dir,
	})
	socket := filepath.Join(dir, "cinder.csi.openstack.org-reg.sock")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no registration socket")
		}
	}
	if said := get(t, "http://"+address+"/readyz"); !strings.Contains(said, "the kubelet has not registered the driver") {
		t.Errorf("/readyz says %q before the kubelet came", said)
	}
	// Registered means that the CSI service answers at once, without waiting.
	info, err := csi.NewNodeClient(s.conn).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{}, grpc.WaitForReady(false))
	if err != nil || info.GetNodeId() != cloud.ServerID("node1") {
		t.Errorf("node info %v, %v", info, err)
	}
	kubelet := api.NewRegistrationClient(dial(t, socket))
	plugin, err := kubelet.GetInfo(t.Context(), &api.InfoRequest{})
	if err != nil || plugin.GetEndpoint() != seen || plugin.GetName() != "cinder.csi.openstack.org" {
		t.Errorf("plugin info %v, %v", plugin, err)
	}
	for _, verdict := range []bool{false, true} {
		if _, err := kubelet.NotifyRegistrationStatus(t.Context(), &api.RegistrationStatus{PluginRegistered: verdict}); err != nil {
			t.Fatal(err)
		}
		if said := get(t, "http://"+address+"/readyz"); (said == "ok\n") != verdict {
			t.Errorf("/readyz says %q, registered: %v", said, verdict)
		}
		if said := get(t, "http://"+address+"/healthz"); said != "ok\n" {
			t.Errorf("/healthz says %q, registered: %v: a restart would make nothing better", said, verdict)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the registration socket stays: %v", err)
	}
}

// registrar stands for node-driver-registrar, whose module isn't for download: it
// does what that does with a plugin, and says to the kubelet what it learned.
type registrar struct {
	api.UnimplementedRegistrationServer
	name, endpoint string
	verdict        chan bool
}

func (r *registrar) GetInfo(context.Context, *api.InfoRequest) (*api.PluginInfo, error) {
	return &api.PluginInfo{Type: api.CSIPlugin, Name: r.name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

func (r *registrar) NotifyRegistrationStatus(_ context.Context, status *api.RegistrationStatus) (*api.RegistrationStatusResponse, error) {
	r.verdict <- status.GetPluginRegistered()
	return &api.RegistrationStatusResponse{}, nil
}

// serve asks the plugin for its name and answers the kubelet on the socket of
// that name, whose path it returns.
func (r *registrar) serve(t *testing.T, dir string) string {
	t.Helper()
	info, err := csi.NewIdentityClient(dial(t, r.endpoint)).GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	r.name = info.GetName()
	socket := filepath.Join(dir, r.name+"-reg.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatalf("the plugin was told not to register itself: %v", err)
	}
	server := grpc.NewServer()
	api.RegisterRegistrationServer(server, r)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return socket
}

func TestAPluginThatDoesNotRegisterItselfIsRegisteredByAnother(t *testing.T) {
	cloud, _ := startCloud(t)
	dir := shortDir(t)
	csiSocket, address := filepath.Join(dir, "csi.sock"), freeAddress(t)
	r := &registrar{endpoint: csiSocket, verdict: make(chan bool, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- driver.Run(ctx, driver.Config{
			Node: true, Endpoint: "unix://" + csiSocket, DefaultFSType: "ext4", HTTPEndpoint: address,
			MetadataURL: cloud.MetadataURL("node1"), DevelopmentDeviceDir: cloud.DeviceDir("node1"),
			PluginRegistrationPath: dir, // the flag's default; only the other flag makes use of it
		}, zap.NewNop())
	}()
	socket := r.serve(t, dir)
	// livenessprobe asks this.
	probe, err := csi.NewIdentityClient(dial(t, csiSocket)).Probe(t.Context(), &csi.ProbeRequest{})
	if err != nil || probe.GetReady() != nil && !probe.GetReady().GetValue() {
		t.Errorf("probe %v, %v", probe, err)
	}
	if said := get(t, "http://"+address+"/readyz"); said != "ok\n" {
		t.Errorf("/readyz says %q, and nobody will ever tell it otherwise", said)
	}
	// The kubelet asks the registrar where the plugin is, the plugin who it is,
	// and tells the registrar.
	kubelet := api.NewRegistrationClient(dial(t, socket))
	plugin, err := kubelet.GetInfo(t.Context(), &api.InfoRequest{})
	if err != nil || plugin.GetName() != "cinder.csi.openstack.org" {
		t.Fatalf("plugin info %v, %v", plugin, err)
	}
	node, err := csi.NewNodeClient(dial(t, plugin.GetEndpoint())).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	if err != nil || node.GetNodeId() != cloud.ServerID("node1") {
		t.Errorf("node info %v, %v", node, err)
	}
	if _, err := kubelet.NotifyRegistrationStatus(t.Context(), &api.RegistrationStatus{PluginRegistered: err == nil}); err != nil || !<-r.verdict {
		t.Errorf("the kubelet's verdict: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("the plugin took away the socket of the registrar: %v", err)
	}
}

func TestARegistrationDirectoryThatIsMissingEndsThePlugin(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := driver.Run(ctx, driver.Config{
		Node: true, Endpoint: "unix://" + filepath.Join(shortDir(t), "csi.sock"), DefaultFSType: "ext4", DevelopmentDeviceDir: t.TempDir(),
		KubeletRegistrationPath: "/csi.sock", PluginRegistrationPath: "/no/such/registration",
	}, zap.NewNop())
	if err == nil || !strings.Contains(err.Error(), "/no/such/registration") || !strings.Contains(err.Error(), "--plugin-registration-path") {
		t.Errorf("got %v", err)
	}
}

func TestHealthIsThatOfTheSocketThatTheKubeletUses(t *testing.T) {
	cloud, _ := startCloud(t)
	address := freeAddress(t)
	dir := shortDir(t)
	socket := filepath.Join(dir, "csi.sock")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- driver.Run(ctx, driver.Config{
			Node: true, Endpoint: "unix://" + socket, DefaultFSType: "ext4", HTTPEndpoint: address,
			MetadataURL: cloud.MetadataURL("node1"), DevelopmentDeviceDir: cloud.DeviceDir("node1"),
		}, zap.NewNop())
	}()
	status := func() int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		defer func() { _ = resp.Body.Close() }()
		http.DefaultClient.CloseIdleConnections()
		return resp.StatusCode
	}
	for deadline := time.Now().Add(20 * time.Second); status() != http.StatusOK; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never healthy")
		}
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != http.StatusServiceUnavailable {
		t.Errorf("/healthz answers %d of a plugin that no kubelet can reach", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
