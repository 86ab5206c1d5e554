package driver_test

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// started is a driver that runs until the test ends.
type started struct {
	conn *grpc.ClientConn
	stop func() error
}

func start(t *testing.T, cfg driver.Config) started {
	t.Helper()
	return startLogging(t, cfg, zap.NewNop())
}

func startLogging(t *testing.T, cfg driver.Config, logger *zap.Logger) started {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "csi.sock")
	cfg.Endpoint = "unix://" + socket
	cfg.DefaultFSType, cfg.Cluster = "ext4", cmp.Or(cfg.Cluster, "test")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- driver.Run(ctx, cfg, logger) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	s := started{conn: conn}
	running := true
	s.stop = func() error {
		if !running {
			return nil
		}
		running = false
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		_ = conn.Close()
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	probe, cancelProbe := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancelProbe()
	if _, err := csi.NewIdentityClient(conn).Probe(probe, &csi.ProbeRequest{}); err != nil {
		select {
		case err = <-done:
			running = false
		default:
		}
		t.Fatal(err)
	}
	return s
}

func startCloud(t *testing.T) (cloud *devcloud.Cloud, conf string) {
	t.Helper()
	cloud, err := devcloud.Start(t.Context(), devcloud.Config{
		StateDir: t.TempDir(),
		Disks:    devcloud.DisksNone,
		Servers:  []devcloud.Server{{Name: "node1", Zone: "az1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	conf = filepath.Join(t.TempDir(), "cloud.conf")
	if err := os.WriteFile(conf, []byte(cloud.CloudConf()), 0o600); err != nil {
		t.Fatal(err)
	}
	return cloud, conf
}

func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestBothRolesServeOnOneEndpointUntilTold(t *testing.T) {
	cloud, conf := startCloud(t)
	address := freeAddress(t)
	s := start(t, driver.Config{
		Controller: true, Cluster: "test", Node: true, Topology: true, Version: "v1", Revision: "abc", CloudConfig: []string{conf}, CloudNames: []string{""},
		MetadataURL: cloud.MetadataURL("node1"), HTTPEndpoint: address, DevelopmentDeviceDir: cloud.DeviceDir("node1"),
	})
	info, err := csi.NewIdentityClient(s.conn).GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
	if err != nil || info.GetName() != "cinder.csi.openstack.org" || info.GetVendorVersion() != "v1" {
		t.Errorf("plugin info %v, %v", info, err)
	}
	node, err := csi.NewNodeClient(s.conn).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if node.GetNodeId() != cloud.ServerID("node1") || node.GetAccessibleTopology().GetSegments()["topology.cinder.csi.openstack.org/zone"] != "az1" {
		t.Errorf("node info %v", node)
	}
	if _, err := csi.NewControllerClient(s.conn).ListVolumes(t.Context(), &csi.ListVolumesRequest{}); err != nil {
		t.Error(err)
	}
	for _, test := range []struct{ path, want string }{
		{"/healthz", "ok"},
		{"/readyz", "ok"},
		{"/metrics", `openstack_api_requests_total{request="volume_list"}`},
		{"/metrics", `cinder_csi_build_info{goversion="` + runtime.Version() + `",revision="abc",role="controller",version="v1"} 1`},
		{"/metrics", `cinder_csi_build_info{goversion="` + runtime.Version() + `",revision="abc",role="node",version="v1"} 1`},
		{"/metrics", `grpc_server_handled_total{grpc_code="OK",grpc_method="ListVolumes",grpc_service="csi.v1.Controller",grpc_type="unary"} 1`},
		{"/metrics", `grpc_server_handled_total{grpc_code="Internal",grpc_method="NodeStageVolume",grpc_service="csi.v1.Node",grpc_type="unary"} 0`},
	} {
		if got := get(t, "http://"+address+test.path); !strings.Contains(got, test.want) {
			t.Errorf("GET %s does not say %s:\n%s", test.path, test.want, got)
		}
	}
	if err := s.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestTheNodeIDOfTheCommandLineIsTheLastResort(t *testing.T) {
	cloud, _ := startCloud(t)
	flag := uuid.NewString()
	for _, test := range []struct {
		name, nodeID, metadata, want string
	}{
		{"the cloud knows better", flag, cloud.MetadataURL("node1"), cloud.ServerID("node1")},
		{"the cloud says nothing", flag, "http://127.0.0.1:1", flag},
		{"the cloud says nothing and the flag is a host name", "worker-1", "http://127.0.0.1:1", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, driver.Config{Node: true, NodeID: test.nodeID, MetadataURL: test.metadata, DevelopmentDeviceDir: t.TempDir()})
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			info, err := csi.NewNodeClient(s.conn).NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
			if info.GetNodeId() != test.want || (err != nil) != (test.want == "") {
				t.Errorf("node id %q, %v; want %q", info.GetNodeId(), err, test.want)
			}
		})
	}
}
