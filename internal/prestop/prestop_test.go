package prestop_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
	"github.com/cinder-csi/cinder-csi/internal/prestop"
)

const (
	driver = "cinder.csi.openstack.org"
	ours   = "kubernetes.io/csi/" + driver + "^11111111-2222-4333-8444-555555555555"
	theirs = "kubernetes.io/csi/other.example.org^11111111-2222-4333-8444-555555555555"
	// long is more than any of these tests takes.
	long = 5 * time.Minute
)

type rig struct {
	*kubetest.Server
	cfg  prestop.Config
	logs *observer.ObservedLogs
}

func newRig(t *testing.T, timeout time.Duration) *rig {
	t.Helper()
	server := kubetest.New(t, "token")
	client, err := kube.New(kube.Options{Kubeconfig: server.Kubeconfig(t, "token")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	core, logs := observer.New(zapcore.InfoLevel)
	return &rig{server, prestop.Config{
		Kubernetes: client, Node: "node", Driver: driver, KubeletDir: t.TempDir(), Timeout: timeout, Logger: zap.New(core),
	}, logs}
}

// node stores the Node.
func (r *rig) node(spec, status map[string]any, metadata map[string]any) {
	r.Store(kube.Nodes, "", "node", map[string]any{"metadata": metadata, "spec": spec, "status": status})
}

func volumes(inUse []string, attached ...string) map[string]any {
	list := []any{}
	for _, name := range attached {
		list = append(list, map[string]any{"name": name, "devicePath": ""})
	}
	return map[string]any{"volumesInUse": inUse, "volumesAttached": list}
}

func tainted(key string) map[string]any {
	return map[string]any{"taints": []any{map[string]any{"key": "example.org/other"}, map[string]any{"key": key, "effect": "NoSchedule"}}}
}

// A plugin that is replaced on a node that stays is not held up: one request.
func TestANodeThatStaysIsNotWaitedFor(t *testing.T) {
	full := volumes([]string{ours}, ours)
	notReady := volumes([]string{ours}, ours)
	notReady["conditions"] = []any{map[string]any{"type": "Ready", "status": "False", "message": "container runtime network not ready"}}
	for name, of := range map[string][2]map[string]any{
		"healthy":              {{}, full},
		"tainted by others":    {tainted("example.org/any"), full},
		"not ready":            {tainted("node.kubernetes.io/not-ready"), notReady},
		"starting":             {tainted(driver + "/agent-not-ready"), full},
		"a candidate to leave": {tainted("DeletionCandidateOfClusterAutoscaler"), full},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, long)
			r.node(of[0], of[1], nil)
			if err := prestop.Wait(t.Context(), r.cfg); err != nil {
				t.Error(err)
			}
			if r.Asked() != 1 {
				t.Errorf("%d requests", r.Asked())
			}
		})
	}
}

func TestANodeThatIsEmptiedIsWaitedFor(t *testing.T) {
	shutting := func(status map[string]any) map[string]any {
		status["conditions"] = []any{
			map[string]any{"type": "DiskPressure", "status": "False", "message": "kubelet has no disk pressure"},
			map[string]any{"type": "Ready", "status": "False", "message": "[container runtime is down, node is shutting down]"},
		}
		return status
	}
	same := func(status map[string]any) map[string]any { return status }
	cordoned := map[string]any{"unschedulable": true}
	for name, of := range map[string]struct {
		spec, metadata map[string]any
		status         func(map[string]any) map[string]any
	}{
		"drained":            {cordoned, nil, same},
		"deleted":            {map[string]any{}, map[string]any{"deletionTimestamp": "2026-11-30T12:00:00Z"}, same},
		"shutting down":      {map[string]any{}, nil, shutting},
		"cluster-autoscaler": {tainted("ToBeDeletedByClusterAutoscaler"), nil, same},
		"karpenter":          {tainted("karpenter.sh/disrupted"), nil, same},
		"out of service":     {tainted("node.kubernetes.io/out-of-service"), nil, same},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, long)
			r.node(of.spec, of.status(volumes([]string{theirs, ours}, ours, theirs)), of.metadata)
			done := make(chan error, 1)
			go func() { done <- prestop.Wait(t.Context(), r.cfg) }()
			r.waits(t, "11111111-2222-4333-8444-555555555555")
			// Unmounted, and still attached.
			r.node(of.spec, of.status(volumes([]string{theirs}, ours, theirs)), of.metadata)
			asked := r.Asked()
			for r.Asked() < asked+2 {
				select {
				case err := <-done:
					t.Fatalf("it returns while the volume is attached: %v", err)
				case <-time.After(10 * time.Millisecond):
				}
			}
			r.node(of.spec, of.status(volumes([]string{theirs}, theirs)), of.metadata)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// waits returns when a volume is waited for.
func (r *rig) waits(t *testing.T, volume string) {
	t.Helper()
	for r.logs.Filter(func(e observer.LoggedEntry) bool {
		list, _ := e.ContextMap()["volumes"].([]any)
		return len(list) == 1 && list[0] == volume
	}).Len() == 0 {
		select {
		case <-t.Context().Done():
			t.Fatalf("nobody waits for %s", volume)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestWhatIsLeftAfterTheTimeIsTold(t *testing.T) {
	r := newRig(t, 2*time.Second)
	r.node(map[string]any{"unschedulable": true}, volumes([]string{ours}), nil)
	err := prestop.Wait(t.Context(), r.cfg)
	if !errors.Is(err, prestop.ErrLeft) || !strings.Contains(err.Error(), "11111111-2222-4333-8444-555555555555") {
		t.Error(err)
	}
}

// A node of which nothing is known holds the plugin up for a part of the time only.
func TestAnAPIServerThatFailsHoldsNothingUp(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"forbidden": func(w http.ResponseWriter, _ *http.Request) {
			kubetest.Status(w, http.StatusForbidden, "Forbidden", "nodes is forbidden", "node")
		},
		"failing": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"hanging": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 4*time.Second)
			r.Instead(answer)
			err := prestop.Wait(t.Context(), r.cfg)
			if err == nil || errors.Is(err, prestop.ErrLeft) && name != "hanging" {
				t.Error(err)
			}
		})
	}
}

// One that fails for a while is asked again, before and while volumes are waited for.
func TestAnAPIServerThatComesBackIsAskedAgain(t *testing.T) {
	r := newRig(t, long)
	fail := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	r.Instead(fail)
	r.node(map[string]any{"unschedulable": true}, volumes([]string{ours}), nil)
	done := make(chan error, 1)
	go func() { done <- prestop.Wait(t.Context(), r.cfg) }()
	for r.Asked() < 2 {
		time.Sleep(10 * time.Millisecond)
	}
	r.Instead(nil)
	r.waits(t, "11111111-2222-4333-8444-555555555555")
	r.Instead(fail)
	r.node(map[string]any{"unschedulable": true}, volumes(nil), nil)
	asked := r.Asked()
	for r.Asked() < asked+1 {
		time.Sleep(10 * time.Millisecond)
	}
	r.Instead(nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Of a Node that is gone, the mounts tell what is left. It takes root, and a mount
// namespace of its own: unshare --mount --propagation private go test.
func TestTheMountsTellWhatIsLeftWhereTheNodeIsGone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting takes root, which make unit has")
	}
	r := newRig(t, long)
	csi := filepath.Join(r.cfg.KubeletDir, "plugins/kubernetes.io/csi")
	mount := func(path, fstype string) {
		t.Helper()
		path = filepath.Join(csi, path)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", path, fstype, 0, ""); err != nil {
			t.Fatalf("mount: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	}
	noted := func(volume, driver string) {
		t.Helper()
		dir := filepath.Join(csi, "volumeDevices", volume, "data")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "vol_data.json"), []byte(`{"driverName":"`+driver+`","volumeHandle":"x"}`), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mount("other.example.org/hash/globalmount", "tmpfs")
	noted("theirs", "other.example.org")
	mount("volumeDevices/publish/theirs/pod", "tmpfs")
	if err := prestop.Wait(t.Context(), r.cfg); err != nil {
		t.Fatalf("others' volumes: %v", err)
	}

	mount(driver+"/hash/globalmount", "tmpfs")
	noted("pv-block", driver)
	mount("volumeDevices/publish/pv-block/pod", "tmpfs")
	done := make(chan error, 1)
	go func() { done <- prestop.Wait(t.Context(), r.cfg) }()
	for r.logs.FilterField(zap.Strings("volumes", []string{"hash", "pv-block"})).Len() == 0 {
		select {
		case err := <-done:
			t.Fatalf("it returns at once: %v, %v", err, r.logs.All())
		case <-time.After(10 * time.Millisecond):
		}
	}
	for _, path := range []string{driver + "/hash/globalmount", "volumeDevices/publish/pv-block/pod"} {
		if err := unix.Unmount(filepath.Join(csi, path), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
