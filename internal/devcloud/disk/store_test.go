package disk_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

const mib = int64(1) << 20

// TestMain lets the test binary stand for other processes: one that is killed,
// and one without rights.
func TestMain(m *testing.M) {
	switch os.Getenv("DISK_TEST_PROCESS") {
	case "victim":
		os.Exit(victim(os.Getenv("DISK_TEST_DIR")))
	case "unprivileged":
		os.Exit(unprivileged(os.Getenv("DISK_TEST_DIR")))
	}
	os.Exit(m.Run())
}

// told ends such a process with what went wrong.
func told(err error) (exitCode int) {
	_, _ = fmt.Fprintln(os.Stdout, err)
	return 1
}

// newDir returns a directory for a store, below which nothing is mounted and no
// loop device is bound when the test is over.
func newDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test uses loop devices and mounts: run it as root")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { clean(t, dir) })
	return dir
}

// clean unmounts and unbinds what a failed test left below dir.
func clean(t *testing.T, dir string) {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Error(err)
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := unix.Unmount(mounts[i].Mountpoint, 0); err != nil {
			t.Errorf("unmount %s: %v", mounts[i].Mountpoint, err)
		}
	}
	opener := loop.NewOpener(dir)
	for _, d := range boundBelow(t, dir) {
		if err := opener.Unbind(d, func() error { return nil }); err != nil {
			t.Error(err)
		}
	}
}

func boundBelow(t *testing.T, dir string) []loop.Device {
	t.Helper()
	all, err := loop.List()
	if err != nil {
		t.Fatal(err)
	}
	var found []loop.Device
	for _, d := range all {
		if strings.HasPrefix(d.File, dir+"/") {
			found = append(found, d)
		}
	}
	return found
}

// openStore opens a store that is closed when the test is over.
func openStore(t *testing.T, dir string) *disk.Store {
	t.Helper()
	s, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test may have closed it
	return s
}

// newStore returns an empty store with the servers node-1 and node-2.
func newStore(t *testing.T) (s *disk.Store, dir string) {
	t.Helper()
	dir = newDir(t)
	s = openStore(t, dir)
	must(t, s.AddServer("node-1", nil))
	must(t, s.AddServer("node-2", nil))
	return s, dir
}

// reopen stands for a process that ended and another one that took over.
func reopen(t *testing.T, s *disk.Store, dir string) *disk.Store {
	t.Helper()
	must(t, s.Close())
	return openStore(t, dir)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, want error, words ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want one that is %q", err, want)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not tell %q", err, word)
		}
	}
}

func newVolume(t *testing.T, s *disk.Store, size int64) string {
	t.Helper()
	id := uuid.NewString()
	must(t, s.Create(id, size))
	return id
}

// attach attaches and returns the node's path, found the way a server finds it.
func attach(t *testing.T, s *disk.Store, server, id string) (node string) {
	t.Helper()
	device, err := s.Attach(server, id, false)
	must(t, err)
	node = byID(t, s, server, id)
	if got := "/dev/" + filepath.Base(node); got != device {
		t.Errorf("the link leads to %s, Attach told %s", got, device)
	}
	return node
}

func byID(t *testing.T, s *disk.Store, server, id string) string {
	t.Helper()
	node, err := filepath.EvalSymlinks(filepath.Join(s.DeviceDir(server), "disk/by-id/virtio-"+id[:20]))
	must(t, err)
	return node
}

// loopOf returns the loop device a node leads to.
func loopOf(t *testing.T, node string) loop.Device {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(node, &st))
	all, err := loop.List()
	must(t, err)
	for _, d := range all {
		if d.Rdev == st.Rdev && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			return d
		}
	}
	t.Fatalf("%s is no bound loop device", node)
	return loop.Device{}
}

// deviceSize is the size in bytes that users of a block device see.
func deviceSize(t *testing.T, node string) int64 {
	t.Helper()
	f, err := os.Open(node)
	must(t, err)
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	must(t, err)
	return size
}

func write(t *testing.T, path string, data []byte, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(data, offset)
	must(t, errors.Join(err, f.Close()))
}

func read(t *testing.T, path string, size int, offset int64) []byte {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer func() { _ = f.Close() }()
	data := make([]byte, size)
	_, err = f.ReadAt(data, offset)
	must(t, err)
	return data
}

func random(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.Read(data) // never fails
	return data
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
}

// mount mounts a device and unmounts it when the test is over, if it still is.
func mount(t *testing.T, node, fsType string) (target string) {
	t.Helper()
	target = t.TempDir()
	must(t, unix.Mount(node, target, fsType, 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(target, 0) })
	return target
}

func unmount(t *testing.T, target string) {
	t.Helper()
	must(t, unix.Unmount(target, 0))
}
