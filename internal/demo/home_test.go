package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts: run it as root")
	}
}

func newTestHome(t *testing.T) *home {
	t.Helper()
	h, err := newHome(shortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.unmountAll(t.Context())
		h.unlock()
	})
	return h
}

// shortDir is a t.TempDir whose path leaves room for that of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func mountTmpfs(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestAHomeIsRemovedWithEverythingInIt(t *testing.T) {
	h := newTestHome(t)
	if err := h.remove(false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(h.dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", h.dir, err)
	}
}

func TestOnlyTheLogsAreKept(t *testing.T) {
	h := newTestHome(t)
	if err := os.WriteFile(h.log("devcloud"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.remove(true); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(h.dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{h.dir + "/logs"}, left); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if dead := abandoned(filepath.Dir(h.dir)); len(dead) != 0 {
		t.Errorf("the logs are taken for a dead demo's: %v", dead[0].dir)
	}
}

func TestAHomeIsNotRemovedWhileSomethingIsMountedThere(t *testing.T) {
	needRoot(t)
	h := newTestHome(t)
	mountTmpfs(t, h.kubelet(Node1), 0)
	precious := filepath.Join(h.kubelet(Node1), "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.remove(false); err == nil {
		t.Error("removed")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("a mounted file was removed: %v", err)
	}
}

func TestStackedMountsAreAllUnmounted(t *testing.T) {
	needRoot(t)
	h := newTestHome(t)
	mountTmpfs(t, h.kubelet(Node1), 0)
	mountTmpfs(t, h.kubelet(Node1), 0)
	inner := filepath.Join(h.kubelet(Node1), "inner")
	if err := os.Mkdir(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	mountTmpfs(t, inner, 0)
	if err := h.unmountAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := mountsBelow(h.dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestADirectoryWhereDeviceNodesAreDeadIsRefused(t *testing.T) {
	needRoot(t)
	base := shortDir(t)
	mountTmpfs(t, base, unix.MS_NODEV)
	if h, err := newHome(base); err == nil {
		h.unlock()
		t.Error("accepted")
	} else if !strings.Contains(err.Error(), "nodev") || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("got %v, want the reason and the way out", err)
	}
	other := shortDir(t)
	h, err := newHome(base, other)
	if err != nil {
		t.Fatal(err)
	}
	h.unlock()
	if filepath.Dir(h.dir) != other {
		t.Errorf("%s, not in the next directory %s", h.dir, other)
	}
	if left, err := filepath.Glob(base + "/*"); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestADirectoryWithALongPathIsRefused(t *testing.T) {
	base := filepath.Join(t.TempDir(), strings.Repeat("long", 25))
	if err := os.Mkdir(base, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := newHome(base); err == nil || !strings.Contains(err.Error(), "too long for a socket") {
		t.Errorf("got %v", err)
	}
}

func TestTheHomeIsNamedAsTheKernelNamesIt(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	place := shortDir(t)
	if err := os.Symlink(place, link); err != nil {
		t.Fatal(err)
	}
	h, err := newHome(link)
	if err != nil {
		t.Fatal(err)
	}
	h.unlock()
	if filepath.Dir(h.dir) != place {
		t.Errorf("%s, want it in %s", h.dir, place)
	}
}

func TestOnlyADeadDemosHomeIsAbandoned(t *testing.T) {
	alive := newTestHome(t)
	base := filepath.Dir(alive.dir)
	dead, err := newHome(base)
	if err != nil {
		t.Fatal(err)
	}
	dead.unlock()
	if err := os.Mkdir(filepath.Join(base, "cinder-csi-demo-unlocked"), 0o700); err != nil {
		t.Fatal(err)
	}
	got := abandoned(base)
	var dirs []string
	for _, h := range got {
		dirs = append(dirs, h.dir)
		h.unlock()
	}
	if diff := cmp.Diff([]string{dead.dir}, dirs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
