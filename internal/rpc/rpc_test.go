package rpc

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseEndpoint(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     Endpoint
		wrong    string
	}{
		{name: "an absolute path", in: "unix:///csi/csi.sock", want: Endpoint{"unix", "/csi/csi.sock"}},
		{name: "a path that lacks its first slash, as old manifests have it", in: "unix://csi/csi.sock", want: Endpoint{"unix", "/csi/csi.sock"}},
		{name: "a scheme in capitals", in: "UNIX:///csi.sock", want: Endpoint{"unix", "/csi.sock"}},
		{name: "tcp", in: "tcp://127.0.0.1:10000", want: Endpoint{"tcp", "127.0.0.1:10000"}},
		{name: "nothing", in: "", wrong: "want unix://PATH"},
		{name: "no scheme", in: "/csi/csi.sock", wrong: "want unix://PATH"},
		{name: "an unknown scheme", in: "http://localhost", wrong: "want unix://PATH"},
		{name: "no address", in: "unix://", wrong: "is missing"},
		{name: "the root directory", in: "unix:///", wrong: "is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseEndpoint(test.in)
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Fatalf("error %v, want one with %q", err, test.wrong)
				}
				return
			}
			if err != nil || got != test.want {
				t.Fatalf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestListenReplacesOnlySockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "csi.sock")
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Endpoint{"unix", path}.Listen(t.Context())
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Endpoint{"unix", path}).Listen(t.Context()); err == nil {
		t.Fatal("listened over a regular file")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "precious" {
		t.Fatalf("the file became %q, %v", got, err)
	}
}

// service answers Node calls as a test wants it to.
type service struct {
	csi.UnimplementedNodeServer
	stage func(context.Context, *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error)
}

func (s *service) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	return s.stage(ctx, r)
}

// serve runs a server until the test ends, or until stop is called.
func serve(t *testing.T, s *service, opts Options) (client csi.NodeClient, stop func() error) {
	t.Helper()
	server := NewServer(opts, func(r grpc.ServiceRegistrar) { csi.RegisterNodeServer(r, s) })
	endpoint := Endpoint{"unix", filepath.Join(t.TempDir(), "csi.sock")}
	listener, err := endpoint.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	conn, err := grpc.NewClient("unix:"+endpoint.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		_ = conn.Close()
		if !stopped {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return csi.NewNodeClient(conn), stop
}

func TestAPanicEndsOneCallAndNotTheServer(t *testing.T) {
	calls := 0
	client, _ := serve(t, &service{stage: func(context.Context, *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
		calls++
		if calls == 1 {
			panic("nobody expected this")
		}
		return &csi.NodeStageVolumeResponse{}, nil
	}}, Options{})
	_, err := client.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Fatalf("the first call: %v, want Unavailable", err)
	}
	if _, err := client.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{}); err != nil {
		t.Fatalf("the second call: %v", err)
	}
}

func TestNoSecretReachesTheLog(t *testing.T) {
	const canary = "canary-passphrase"
	core, logs := observer.New(zap.DebugLevel)
	client, _ := serve(t, &service{stage: func(context.Context, *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
		return nil, status.Error(codes.Internal, "no")
	}}, Options{Logger: zap.New(core)})
	_, err := client.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: "volume-1", Secrets: map[string]string{"key": canary},
	})
	if status.Code(err) != codes.Internal {
		t.Fatal(err)
	}
	if logs.Len() < 2 {
		t.Fatalf("%d log lines, want the request and its outcome", logs.Len())
	}
	for _, entry := range logs.All() {
		for key, value := range entry.ContextMap() {
			if s, ok := value.(string); ok && strings.Contains(s, canary) {
				t.Errorf("line %q, field %q: %s", entry.Message, key, s)
			}
		}
	}
	outcome := logs.FilterMessage("call failed").All()
	if len(outcome) != 1 || outcome[0].ContextMap()["volumeID"] != "volume-1" || outcome[0].ContextMap()["requestID"] == "" {
		t.Errorf("the outcome's line: %v", outcome)
	}
}

func TestStoppingWaitsForRunningCalls(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	client, stop := serve(t, &service{stage: func(context.Context, *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
		close(entered)
		<-release
		return &csi.NodeStageVolumeResponse{}, nil
	}}, Options{})
	answer := make(chan error, 1)
	go func() {
		_, err := client.NodeStageVolume(context.Background(), &csi.NodeStageVolumeRequest{})
		answer <- err
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		t.Fatalf("stopped with a call running: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-answer; err != nil {
		t.Errorf("the running call: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("the server: %v", err)
	}
}

func TestStoppingCutsOffCallsAfterTheGracePeriod(t *testing.T) {
	entered := make(chan struct{})
	client, stop := serve(t, &service{stage: func(ctx context.Context, _ *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
		close(entered)
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}}, Options{Grace: 10 * time.Millisecond})
	answer := make(chan error, 1)
	go func() {
		_, err := client.NodeStageVolume(context.Background(), &csi.NodeStageVolumeRequest{})
		answer <- err
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("the server: %v", err)
	}
	if err := <-answer; err == nil {
		t.Error("the call that was cut off succeeded")
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	registry := prometheus.NewRegistry()
	register := func(grpc.ServiceRegistrar) {}
	NewServer(Options{Metrics: registry}, register)
	defer func() {
		if recover() == nil {
			t.Error("two servers count into the same metrics")
		}
	}()
	NewServer(Options{Metrics: registry}, register)
}

func TestALogLineNamesWhatItsCallIsAbout(t *testing.T) {
	for _, test := range []struct {
		request any
		want    string
	}{
		{&csi.CreateVolumeRequest{Name: "pvc-1"}, "name=pvc-1"},
		{&csi.ControllerPublishVolumeRequest{VolumeId: "v", NodeId: "n"}, "volumeID=v nodeID=n"},
		{&csi.CreateSnapshotRequest{SourceVolumeId: "v", Name: "s"}, "sourceVolumeID=v name=s"},
		{&csi.DeleteSnapshotRequest{SnapshotId: "s"}, "snapshotID=s"},
		{&csi.NodeGetInfoRequest{}, ""},
		{nil, ""},
	} {
		var got []string
		for _, field := range subject(test.request) {
			got = append(got, field.Key+"="+field.String)
		}
		if all := strings.Join(got, " "); all != test.want {
			t.Errorf("%T: %q, want %q", test.request, all, test.want)
		}
	}
	// The kubelet asks for it every minute.
	if !routine(csi.Node_NodeGetInfo_FullMethodName) || routine(csi.Node_NodeStageVolume_FullMethodName) {
		t.Error("NodeGetInfo is told like a stage")
	}
}
