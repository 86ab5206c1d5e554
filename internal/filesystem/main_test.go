package filesystem

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// kinds are the filesystems that most tests go through.
func kinds() []string { return []string{ext4, ext3, xfs, btrfs} }

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests attach loop devices and mount them: run them as root")
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// blankDisk returns a blank device, large enough for each filesystem.
func blankDisk(t testing.TB) *looptest.Device {
	t.Helper()
	return looptest.New(t, looptest.Options{Size: 512 * mib})
}

// formattedDisk returns a device with a filesystem on it.
func formattedDisk(t testing.TB, f *FS, fsType string) *looptest.Device {
	t.Helper()
	d := blankDisk(t)
	if err := f.Format(t.Context(), d.Path, fsType, nil); err != nil {
		t.Fatal(err)
	}
	return d
}

// mountDir returns a directory whose mounts are gone when the test ends.
func mountDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	unmountAfter(t, dir)
	return dir
}

// unmountAfter takes every mount off dir when the test ends.
func unmountAfter(t testing.TB, dir string) {
	t.Cleanup(func() {
		for range 100 {
			if unix.Unmount(dir, unix.UMOUNT_NOFOLLOW) != nil {
				return
			}
		}
	})
}

// run runs a plain tool.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// gate has programs of one name wait before they run, and counts them.
type gate struct {
	name    string
	arrived chan string   // receives the device of each that comes to the gate
	open    chan struct{} // closed or fed to let them pass

	mu                     sync.Mutex
	started, running, most int
}

func newGate(name string) *gate {
	return &gate{name: name, arrived: make(chan string, 100), open: make(chan struct{}, 100)}
}

// run is for Options.Run.
func (g *gate) run(cmd *exec.Cmd) error {
	if filepath.Base(cmd.Args[0]) == g.name && len(cmd.Args) > 2 { // not a mere -V
		g.count(1)
		defer g.count(-1)
		g.arrived <- cmd.Args[len(cmd.Args)-1]
		<-g.open
	}
	return cmd.Run()
}

func (g *gate) count(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running += n
	g.started += max(n, 0)
	g.most = max(g.most, g.running)
}

// soon returns a context for what mustn't take long.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
