package registration_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/cinder-csi/cinder-csi/internal/registration"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const csiSocket = "/var/lib/kubelet/plugins/cinder.csi.openstack.org/csi.sock"

// plugin is a registration that runs until the test ends.
type plugin struct {
	cfg  registration.Config
	logs *observer.ObservedLogs
	// verdict is what was told last: "", "true" or "false".
	verdict atomic.Value
	stop    func() error
}

func start(t *testing.T, dir string) *plugin {
	t.Helper()
	return startLooking(t, dir, 10*time.Millisecond)
}

func startLooking(t *testing.T, dir string, every time.Duration) *plugin {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	p := &plugin{logs: logs, cfg: registration.Config{
		Driver: "cinder.csi.openstack.org", Endpoint: csiSocket, Dir: dir, Logger: zap.New(core), LookEvery: every,
	}}
	p.cfg.Registered = func(yes bool) { p.verdict.Store(strconv.FormatBool(yes)) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- registration.Serve(ctx, p.cfg) }()
	stopped := false
	p.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("it does not stop")
		}
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// shortDir is a directory whose sockets have names that the kernel takes: those
// of t.TempDir hold the name of the test.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "reg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// until waits for something to come true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// kubelet does what the kubelet does with a socket that it finds: it connects,
// asks, and says how it went.
func kubelet(t *testing.T, path string, verdict *api.RegistrationStatus) *api.PluginInfo {
	t.Helper()
	until(t, "the socket "+path, func() bool {
		info, err := os.Lstat(path)
		return err == nil && info.Mode().Type() == fs.ModeSocket
	})
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	client := api.NewRegistrationClient(conn)
	info, err := client.GetInfo(ctx, &api.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.NotifyRegistrationStatus(ctx, verdict); err != nil {
		t.Fatal(err)
	}
	return info
}

func TestTheKubeletLearnsWhereTheCSISocketIs(t *testing.T) {
	p := start(t, shortDir(t))
	info := kubelet(t, p.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	if info.GetType() != "CSIPlugin" || info.GetName() != "cinder.csi.openstack.org" || info.GetEndpoint() != csiSocket ||
		len(info.GetSupportedVersions()) != 1 || info.GetSupportedVersions()[0] != "1.0.0" {
		t.Errorf("the kubelet got %v", info)
	}
	if filepath.Base(p.cfg.Path()) != "cinder.csi.openstack.org-reg.sock" {
		t.Errorf("the socket is %s", p.cfg.Path())
	}
	if p.logs.FilterMessage("the kubelet has registered this driver").Len() != 1 {
		t.Errorf("logged %v", p.logs.All())
	}
	if mode, err := os.Lstat(p.cfg.Path()); err != nil || mode.Mode().Perm() != 0o600 {
		t.Errorf("the socket is open to others: %v, %v", mode.Mode(), err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(p.cfg.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stays after the plugin: %v", err)
	}
}

func TestAKubeletThatRestartsFindsTheSameSocket(t *testing.T) {
	p := start(t, shortDir(t))
	kubelet(t, p.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	before, err := os.Lstat(p.cfg.Path())
	if err != nil {
		t.Fatal(err)
	}
	kubelet(t, p.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	after, err := os.Lstat(p.cfg.Path())
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket is another one: %v", err)
	}
	if n := p.logs.FilterMessage("the kubelet has registered this driver").Len(); n != 2 {
		t.Errorf("%d registrations", n)
	}
}

func TestAFailureIsToldAndTheKubeletMayTryAgain(t *testing.T) {
	p := start(t, shortDir(t))
	const said = "RegisterPlugin error -- plugin registration failed with err: rpc error: NodeGetInfo: no metadata"
	kubelet(t, p.cfg.Path(), &api.RegistrationStatus{Error: said})
	if p.verdict.Load() != "false" {
		t.Errorf("the verdict is %v", p.verdict.Load())
	}
	failures := p.logs.FilterLevelExact(zapcore.ErrorLevel).All()
	if len(failures) != 1 || failures[0].ContextMap()["error"] != said || failures[0].ContextMap()["kubeletRegistrationPath"] != csiSocket {
		t.Fatalf("logged %v", failures)
	}
	kubelet(t, p.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	if p.logs.FilterMessage("the kubelet has registered this driver").Len() != 1 || p.verdict.Load() != "true" {
		t.Errorf("the second try is not told: %v", p.verdict.Load())
	}
}

// leave puts a socket where nobody listens any more.
func leave(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTheSocketOfAPluginThatWasKilledIsReplaced(t *testing.T) {
	dir := shortDir(t)
	leave(t, filepath.Join(dir, "cinder.csi.openstack.org-reg.sock"))
	p := start(t, dir)
	until(t, "serving", func() bool { return p.logs.FilterMessage("waiting for the kubelet to register this driver").Len() == 1 })
	kubelet(t, p.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
}

func TestASocketThatSomebodyRemovedIsMadeAgain(t *testing.T) {
	p := start(t, shortDir(t))
	kubelet(t, p.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	if err := os.Remove(p.cfg.Path()); err != nil {
		t.Fatal(err)
	}
	until(t, "it is known that the kubelet has lost it", func() bool { return p.verdict.Load() == "false" })
	kubelet(t, p.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	if p.logs.FilterLevelExact(zapcore.WarnLevel).Len() != 1 {
		t.Errorf("logged %v", p.logs.All())
	}
}

func TestAPluginThatIsSlowToStopLeavesItsSuccessorAlone(t *testing.T) {
	dir := shortDir(t)
	old := start(t, dir)
	kubelet(t, old.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	young := start(t, dir)
	until(t, "the old one sees it", func() bool { return old.logs.FilterLevelExact(zapcore.WarnLevel).Len() > 0 })
	if err := old.stop(); err != nil {
		t.Error(err)
	}
	kubelet(t, young.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	if young.logs.FilterMessage("the kubelet has registered this driver").Len() != 1 {
		t.Error("the kubelet does not reach the young one")
	}
}

func TestStoppingAtOnceAfterASuccessorStartedKeepsTheSuccessorsSocket(t *testing.T) {
	old := startLooking(t, shortDir(t), time.Hour)
	kubelet(t, old.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	leave(t, old.cfg.Path()+".new")
	if err := os.Rename(old.cfg.Path()+".new", old.cfg.Path()); err != nil {
		t.Fatal(err)
	}
	if err := old.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(old.cfg.Path()); err != nil {
		t.Errorf("the successor's socket is gone: %v", err)
	}
}

func TestAPathThatCannotBeIsNamed(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "cinder.csi.openstack.org-reg.sock")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, dir string
		says      []string
	}{
		{"a directory that is not mounted", "/no/such/registration", []string{"/no/such/registration", "plugins_registry", "--plugin-registration-path"}},
		{"a file in the place of the socket", dir, []string{file, "not a socket"}},
		{"a path too long for a socket", longDir(t), []string{"listen on"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := registration.Serve(t.Context(), registration.Config{
				Driver: "cinder.csi.openstack.org", Endpoint: csiSocket, Dir: test.dir, Logger: zap.NewNop(),
			})
			if err == nil {
				t.Fatal("it serves")
			}
			for _, word := range test.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		})
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "precious" {
		t.Errorf("the file became %q, %v", content, err)
	}
}

// longDir is a directory whose sockets would have names longer than the kernel
// takes.
func longDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
