package registration_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/cinder-csi/cinder-csi/internal/registration"
	"github.com/cinder-csi/cinder-csi/internal/unixsocket"
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
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	p := &plugin{logs: logs, cfg: registration.Config{
		Driver: "cinder.csi.openstack.org", NodeName: "worker-1", Endpoint: csiSocket, Dir: dir, Logger: zap.New(core), LookEvery: every,
	}}
	registry := prometheus.NewRegistry()
	p.cfg.Metrics = registry
	p.cfg.Registered = func(yes bool) { // by which time the metric tells it
		want := "# HELP cinder_csi_node_registered 1 while the kubelet has registered the driver, by its last word; 0 before, when it refused, and when the registration socket is lost.\n" +
			"# TYPE cinder_csi_node_registered gauge\ncinder_csi_node_registered " + map[bool]string{false: "0", true: "1"}[yes] + "\n"
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
		p.verdict.Store(strconv.FormatBool(yes))
	}
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
		case <-time.After(time.Minute):
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
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
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

func TestANodeWithAnotherLabelIsToldWithTheCommandThatMendsIt(t *testing.T) {
	p := start(t, shortDir(t))
	// As updateTopologyLabels of the kubelet's nodeinfomanager says it.
	const collision = `RegisterPlugin error -- plugin registration failed with err: error updating Node object with CSI driver node info: ` +
		`error updating node: timed out waiting for the condition; caused by: detected topology value collision: driver reported "%[1]s":"%[3]s" but existing label is "%[1]s":"%[2]s"`
	for i, tt := range []struct{ key, old, now string }{
		{"topology.cinder.csi.openstack.org/zone", "az1", "az2"},
		{"topology.cinder.csi.openstack.org/zone", "", "nova"}, // by a driver that knew no zone
		{"topology.kubernetes.io/zone", "az1", ""},
	} {
		kubelet(t, p.cfg.Path(), &api.RegistrationStatus{Error: fmt.Sprintf(collision, tt.key, tt.old, tt.now)})
		failures := p.logs.FilterLevelExact(zapcore.ErrorLevel).All()
		if len(failures) != i+1 {
			t.Fatalf("logged %v", failures)
		}
		said := failures[i].ContextMap()
		for field, want := range map[string]string{
			"nodeName": "worker-1", "label": tt.key, "old": tt.old, "new": tt.now,
			"command": "kubectl label node worker-1 " + tt.key + "=" + tt.now + " --overwrite",
		} {
			if said[field] != want {
				t.Errorf("the log says %s=%v, want %q", field, said[field], want)
			}
		}
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

// stranger is another plugin's registrar, which takes the place of whoever is there in
// one step: a plugin that looks in between would take its path back.
func stranger(t *testing.T, path string) *unixsocket.Listener {
	t.Helper()
	l, err := unixsocket.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestALostSocketIsToldAndTakenBackWhenThePathIsFree over what happens to it on a node.
func TestALostSocketIsToldAndTakenBackWhenThePathIsFree(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		// lose takes the socket away; free, nil where nothing has to happen, lets it be
		// taken back.
		lose func(t *testing.T, path string) (free func())
	}{
		{"removed", func(t *testing.T, path string) func() {
			must(t, os.Remove(path))
			return nil
		}},
		{"the directory removed and made again, as with a reset of the kubelet", func(t *testing.T, path string) func() {
			must(t, os.Rename(filepath.Dir(path), filepath.Dir(path)+".gone"))
			return func() { must(t, os.Mkdir(filepath.Dir(path), 0o700)) }
		}},
		{"the directory replaced by a file", func(t *testing.T, path string) func() {
			file := filepath.Dir(path) + ".file"
			must(t, os.WriteFile(file, nil, 0o600))
			must(t, unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, filepath.Dir(path), unix.RENAME_EXCHANGE))
			return func() { must(t, errors.Join(os.Remove(filepath.Dir(path)), os.Mkdir(filepath.Dir(path), 0o700))) }
		}},
		{"replaced by a file", func(t *testing.T, path string) func() {
			must(t, os.WriteFile(path+".file", []byte("precious"), 0o600))
			must(t, os.Rename(path+".file", path))
			return func() {
				if content, err := os.ReadFile(path); err != nil || string(content) != "precious" {
					t.Errorf("the file became %q, %v", content, err)
				}
				must(t, os.Remove(path))
			}
		}},
		{"replaced by the dead socket of another plugin", func(t *testing.T, path string) func() {
			leave(t, path+".dead")
			must(t, os.Rename(path+".dead", path))
			return nil
		}},
		{"replaced by another plugin, which ends in good order", func(t *testing.T, path string) func() {
			other := stranger(t, path)
			return func() { must(t, errors.Join(other.Remove(), other.Close())) }
		}},
		{"replaced by another plugin, which is killed", func(t *testing.T, path string) func() {
			other := stranger(t, path)
			return func() { must(t, other.Close()) }
		}},
		{"replaced by another plugin, which restarts twice before its DaemonSet is deleted", func(t *testing.T, path string) func() {
			other := stranger(t, path)
			for range 2 {
				next := stranger(t, path)
				must(t, other.Close())
				other = next
			}
			return func() { must(t, errors.Join(other.Remove(), other.Close())) }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, filepath.Join(shortDir(t), "r"))
			kubelet(t, p.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
			free := tt.lose(t, p.cfg.Path())
			until(t, "the plugin says that the kubelet has lost it", func() bool { return p.verdict.Load() == "false" })
			if free != nil {
				before, _ := os.Lstat(p.cfg.Path())
				until(t, "the plugin says that it waits", func() bool { return p.logs.FilterLevelExact(zapcore.WarnLevel).Len() >= 2 })
				time.Sleep(100 * time.Millisecond) // ten looks
				if after, _ := os.Lstat(p.cfg.Path()); before != nil && !os.SameFile(before, after) {
					t.Error("what is in its place was taken away")
				}
				if n := p.logs.FilterLevelExact(zapcore.WarnLevel).Len(); n != 2 {
					t.Errorf("logged %d times: %v", n, p.logs.All())
				}
				free()
			}
			until(t, "the path is served", func() bool {
				conn, err := net.Dial("unix", p.cfg.Path())
				if err == nil {
					_ = conn.Close()
				}
				return err == nil
			})
			kubelet(t, p.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
			if p.verdict.Load() != "true" {
				t.Errorf("the verdict is %v", p.verdict.Load())
			}
			if mode, err := os.Lstat(p.cfg.Path()); err != nil || mode.Mode().Perm() != 0o600 {
				t.Errorf("the socket is open to others: %v, %v", mode, err)
			}
		})
	}
}

// TestTwoPluginsOfOneNameDoNotFight: the one that started last has the path; when it ends,
// the other has it again, however often.
func TestTwoPluginsOfOneNameDoNotFight(t *testing.T) {
	dir := shortDir(t)
	old := start(t, dir)
	kubelet(t, old.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	for range 3 {
		young := start(t, dir)
		until(t, "the old one sees it", func() bool { return old.verdict.Load() == "false" })
		kubelet(t, young.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
		before, err := os.Lstat(young.cfg.Path())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if after, err := os.Lstat(young.cfg.Path()); err != nil || !os.SameFile(before, after) {
			t.Errorf("they fight: %v", err)
		}
		if young.verdict.Load() != "true" {
			t.Errorf("the young one's verdict is %v", young.verdict.Load())
		}
		if err := young.stop(); err != nil {
			t.Error(err)
		}
		kubelet(t, old.cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
		if old.verdict.Load() != "true" {
			t.Errorf("the old one's verdict is %v", old.verdict.Load())
		}
	}
}

// TestADirectoryThatIsGoneForGoodEndsThePlugin: a container goes on to see what was
// mounted into it, and the kubelet uses another directory by now.
func TestADirectoryThatIsGoneForGoodEndsThePlugin(t *testing.T) {
	dir := shortDir(t)
	seen, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = seen.Close() }()
	ended := make(chan error, 1)
	cfg := registration.Config{
		Driver: "cinder.csi.openstack.org", Endpoint: csiSocket, Dir: fmt.Sprintf("/proc/self/fd/%d", seen.Fd()),
		Logger: zap.NewNop(), LookEvery: 10 * time.Millisecond,
	}
	go func() { ended <- registration.Serve(t.Context(), cfg) }()
	kubelet(t, cfg.Path(), &api.RegistrationStatus{PluginRegistered: true})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "started again") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on")
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
