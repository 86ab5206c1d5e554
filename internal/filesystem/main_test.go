package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	utilexec "k8s.io/utils/exec"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// kinds are the filesystems that most tests go through.
func kinds() []string { return []string{ext4, ext3, xfs, btrfs} }

// typed returns a type of filesystem.
func typed(name string) *Type {
	t, err := TypeOf(name)
	if err != nil {
		panic(err)
	}
	return t
}

// parsed returns options of mkfs; the test that refuses some asks for them itself.
func parsed(name string, options []string) mkfs.List {
	list, err := typed(name).dialect().Parse(options)
	if err != nil {
		panic(err)
	}
	return list
}

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests attach loop devices and mount them: run them as root")
		os.Exit(1)
	}
	if os.Getenv(interruptedVariable) != "" {
		os.Exit(runInterrupted())
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
	if err := f.Format(t.Context(), Device{Path: d.Path}, Quick, typed(fsType), nil); err != nil {
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

// unmountAfter takes every mount off dir when the test ends. Whoever walks through
// the directory at that moment, as du does, is waited for; a mount that stays in
// use is detached, since it would keep its device for ever, and fails the test.
func unmountAfter(t testing.TB, dir string) {
	t.Cleanup(func() {
		flags := unix.UMOUNT_NOFOLLOW
		deadline := time.Now().Add(5 * time.Second)
		for {
			err := unix.Unmount(dir, flags)
			switch {
			case err == nil:
				continue
			case !errors.Is(err, unix.EBUSY):
				return // nothing is mounted there any more
			case time.Now().After(deadline):
				t.Errorf("unmount %s: %v", dir, err)
				flags |= unix.MNT_DETACH
			}
			time.Sleep(10 * time.Millisecond)
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
	least   int           // words that a command has which stops; a mere -V has fewer

	mu                     sync.Mutex
	started, running, most int
}

func newGate(name string) *gate {
	return &gate{name: name, arrived: make(chan string, 100), open: make(chan struct{}, 100), least: 3}
}

// exec is for Options.Exec.
func (g *gate) exec() utilexec.Interface {
	return hooked{Interface: utilexec.New(), hook: func(words []string, run func() ([]byte, error)) ([]byte, error) {
		if filepath.Base(words[0]) == g.name && len(words) >= g.least {
			g.count(1)
			defer g.count(-1)
			g.arrived <- words[len(words)-1]
			<-g.open
		}
		return run()
	}}
}

// hooked is an Exec that hands programs that write, and how to run them, to a
// hook.
type hooked struct {
	utilexec.Interface
	hook func(words []string, run func() ([]byte, error)) ([]byte, error)
}

func (h hooked) Command(name string, args ...string) utilexec.Cmd {
	words := append([]string{name}, args...)
	if filepath.Base(name) == "setsid" {
		words = args
	}
	return &hookedCmd{Cmd: h.Interface.Command(name, args...), words: words, hook: h.hook}
}

type hookedCmd struct {
	utilexec.Cmd
	words []string
	hook  func(words []string, run func() ([]byte, error)) ([]byte, error)
	out   io.Writer
}

func (c *hookedCmd) SetStdout(out io.Writer) {
	c.out = out
	c.Cmd.SetStdout(out)
}

// Run gives what the hook returns besides to whoever reads the output.
func (c *hookedCmd) Run() error {
	out, err := c.hook(c.words, func() ([]byte, error) { return nil, c.Cmd.Run() })
	_, _ = c.out.Write(out)
	return err
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

func uintptrOf(span *[2]uint64) uintptr { return uintptr(unsafe.Pointer(span)) }
