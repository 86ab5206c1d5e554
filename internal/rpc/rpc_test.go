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
	"go.uber.org/zap/zapcore"
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

func TestStoppingEndsWhatOnlyWaits(t *testing.T) {
	entered := make(chan struct{})
	core, logs := observer.New(zap.DebugLevel)
	client, stop := serve(t, &service{stage: func(ctx context.Context, _ *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
		close(entered)
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}}, Options{Grace: time.Hour, Logger: zap.New(core)})
	answer := make(chan error, 1)
	go func() {
		_, err := client.NodeStageVolume(context.Background(), &csi.NodeStageVolumeRequest{})
		answer <- err
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("the server: %v", err)
	}
	if err := <-answer; status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "ask again") {
		t.Errorf("the call that was waiting: %v", err)
	}
	if loud := logs.Filter(func(e observer.LoggedEntry) bool { return e.Level > zap.InfoLevel }).All(); len(loud) > 0 {
		t.Errorf("a stop is nobody's fault: %v", loud)
	}
}

func TestStoppingCutsOffCallsAfterTheGracePeriod(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	client, stop := serve(t, &service{stage: func(context.Context, *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
		close(entered)
		<-release
		return nil, status.Error(codes.Internal, "too late")
	}}, Options{Grace: 10 * time.Millisecond})
	defer close(release)
	answer := make(chan error, 1)
	go func() {
		_, err := client.NodeStageVolume(context.Background(), &csi.NodeStageVolumeRequest{})
		answer <- err
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("the server: %v", err)
	}
	if err := <-answer; status.Code(err) != codes.Unavailable {
		t.Errorf("the call that was cut off: %v", err)
	}
}

func TestAnOutcomeIsAsLoudAsItsFaultIsOurs(t *testing.T) {
	for _, test := range []struct {
		method string
		want   map[zapcore.Level][]codes.Code
	}{
		{csi.Controller_CreateVolume_FullMethodName, map[zapcore.Level][]codes.Code{
			zap.InfoLevel:  {codes.OK, codes.Canceled, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.OutOfRange, codes.Aborted, codes.Unimplemented, codes.FailedPrecondition},
			zap.WarnLevel:  {codes.PermissionDenied, codes.Unauthenticated},
			zap.ErrorLevel: {codes.Unknown, codes.Internal, codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.DataLoss, codes.Code(99)},
		}},
		{csi.Node_NodeStageVolume_FullMethodName, map[zapcore.Level][]codes.Code{
			zap.InfoLevel: {codes.OK, codes.Aborted}, zap.WarnLevel: {codes.FailedPrecondition}, zap.ErrorLevel: {codes.Internal},
		}},
		{csi.Node_NodeGetInfo_FullMethodName, map[zapcore.Level][]codes.Code{zap.DebugLevel: {codes.OK}, zap.ErrorLevel: {codes.Unavailable}}},
		{csi.Node_NodeGetVolumeStats_FullMethodName, map[zapcore.Level][]codes.Code{zap.DebugLevel: {codes.OK}, zap.InfoLevel: {codes.NotFound}}},
		{csi.Controller_ListVolumes_FullMethodName, map[zapcore.Level][]codes.Code{zap.DebugLevel: {codes.OK}}},
		{csi.Identity_Probe_FullMethodName, map[zapcore.Level][]codes.Code{zap.DebugLevel: {codes.OK}}},
	} {
		for level, all := range test.want {
			for _, code := range all {
				if got := levelOf(test.method, code); got != level {
					t.Errorf("%s %v: %v, want %v", test.method, code, got, level)
				}
			}
		}
	}
}

// An alert about what never happened before finds its zero.
func TestEveryMethodThatChangesSomethingIsCountedFromTheStart(t *testing.T) {
	registry := prometheus.NewRegistry()
	client, _ := serve(t, &service{stage: func(context.Context, *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
		return nil, status.Error(codes.Aborted, "not now")
	}}, Options{Metrics: registry})
	count := func(method string) (n int, text string) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if f.GetName() == "grpc_server_handled_total" && l.GetName() == "grpc_method" && l.GetValue() == method {
						n += int(m.GetCounter().GetValue())
						text += m.String() + "\n"
					}
				}
			}
		}
		return n, text
	}
	if n, text := count("NodeStageVolume"); n != 0 || !strings.Contains(text, "DeadlineExceeded") {
		t.Errorf("before any call: %d, %s", n, text)
	}
	if _, text := count("NodeGetInfo"); text != "" {
		t.Errorf("routine is counted before any call: %s", text)
	}
	_, _ = client.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{})
	if n, text := count("NodeStageVolume"); n != 1 || !strings.Contains(text, "DeadlineExceeded") {
		t.Errorf("after a call: %d, %s", n, text)
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
		{&csi.CreateSnapshotRequest{SourceVolumeId: "v", Name: "s"}, "volumeID=v name=s"},
		{&csi.CreateVolumeRequest{Name: "pvc-1", Parameters: map[string]string{
			"csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pv/name": "pvc-1", "type": "fast",
		}}, "name=pvc-1 pvc=data namespace=shop pv=pvc-1"},
		{&csi.CreateSnapshotRequest{Name: "s", Parameters: map[string]string{
			"csi.storage.k8s.io/volumesnapshot/name": "before", "csi.storage.k8s.io/volumesnapshot/namespace": "shop",
		}}, "name=s volumeSnapshot=before namespace=shop"},
		{&csi.NodePublishVolumeRequest{VolumeId: "v", VolumeContext: map[string]string{
			"csi.storage.k8s.io/pod.name": "db-0", "csi.storage.k8s.io/pod.namespace": "shop", "csi.storage.k8s.io/serviceAccount.tokens": "canary",
		}}, "volumeID=v pod=db-0 namespace=shop"},
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
}
