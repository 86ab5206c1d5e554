package disk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// assertUntouched checks that a refused detach left everything as it was: the node
// and the link lead to the same device, which will not detach itself.
func assertUntouched(t *testing.T, s *disk.Store, dir, id string, want loop.Device) {
	t.Helper()
	node := byID(t, s, "node-1", id)
	if got := loopOf(t, node); got != want {
		t.Fatalf("the node leads to %+v, want %+v", got, want)
	}
	status, err := loop.NewOpener(dir).Status(want)
	if err != nil || status.AutoClear {
		t.Errorf("status %+v, %v", status, err)
	}
}

func TestAMountedDeviceIsNotDetached(t *testing.T) {
	for _, fs := range []struct{ kind, mkfs string }{{"ext4", "mkfs.ext4"}, {"xfs", "mkfs.xfs"}, {"btrfs", "mkfs.btrfs"}} {
		t.Run(fs.kind, func(t *testing.T) {
			s, dir := newStore(t)
			id := newVolume(t, s, 512*mib)
			node := attach(t, s, "node-1", id)
			d := loopOf(t, node)
			run(t, fs.mkfs, "-q", node)
			target := mount(t, node, fs.kind)
			wantError(t, s.Detach("node-1", id), disk.ErrInUse, id, "node-1", "mount "+target, fs.kind)
			assertUntouched(t, s, dir, id, d)
			must(t, os.WriteFile(filepath.Join(target, "file"), random(100_000), 0o600))
			unmount(t, target)
			assertUntouched(t, s, dir, id, d) // did not go with its last user
			must(t, s.Detach("node-1", id))
			assertNothingAttached(t, s, dir)
		})
	}
}

func TestAnOpenDeviceIsNotDetached(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, mib)
	node := attach(t, s, "node-1", id)
	d := loopOf(t, node)
	f, err := os.Open(node)
	must(t, err)
	wantError(t, s.Detach("node-1", id), disk.ErrInUse, "process "+strconv.Itoa(os.Getpid()))
	assertUntouched(t, s, dir, id, d)
	must(t, f.Close())
	assertUntouched(t, s, dir, id, d)
	must(t, s.Detach("node-1", id))
	assertNothingAttached(t, s, dir)
}

func TestADetachWaitsForThoseWhoOnlyTakeALook(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, mib)
	f, err := os.Open(attach(t, s, "node-1", id))
	must(t, err)
	closed := make(chan error)
	go func() {
		time.Sleep(200 * time.Millisecond) // as long as a look by udev takes
		closed <- f.Close()
	}()
	must(t, s.Detach("node-1", id))
	must(t, <-closed)
	assertNothingAttached(t, s, dir)
}

func TestADeviceThatAnotherProcessHoldsIsNotDetached(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, mib)
	node := attach(t, s, "node-1", id)
	d := loopOf(t, node)
	f, err := os.Open(node)
	must(t, err)
	holder := exec.Command("sleep", "1000")
	holder.ExtraFiles = []*os.File{f}
	must(t, holder.Start())
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	must(t, f.Close())
	wantError(t, s.Detach("node-1", id), disk.ErrInUse, "process "+strconv.Itoa(holder.Process.Pid)+" (sleep)")
	assertUntouched(t, s, dir, id, d)
	must(t, holder.Process.Kill())
	_ = holder.Wait() // killed
	must(t, s.Detach("node-1", id))
	assertNothingAttached(t, s, dir)
}

func TestADeviceMountedInAnotherNamespaceIsNotDetached(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, 64*mib)
	node := attach(t, s, "node-1", id)
	d := loopOf(t, node)
	run(t, "mkfs.ext4", "-q", node)
	target := t.TempDir()
	holder := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount -t ext4 "$0" "$1" && echo mounted && exec sleep 1000`, node, target)
	started, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	if _, err := started.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the holder did not mount: %v", err)
	}
	wantError(t, s.Detach("node-1", id), disk.ErrInUse, "mount "+target)
	assertUntouched(t, s, dir, id, d)
	must(t, holder.Process.Kill())
	_ = holder.Wait() // killed
	must(t, s.Detach("node-1", id))
	assertNothingAttached(t, s, dir)
}

func TestADeviceMountedWhereNobodyCanSeeItIsNotDetached(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, 64*mib)
	node := attach(t, s, "node-1", id)
	d := loopOf(t, node)
	run(t, "mkfs.ext4", "-q", node)
	target := mount(t, node, "ext4")
	must(t, os.WriteFile(filepath.Join(target, "file"), nil, 0o600))
	f, err := os.Open(filepath.Join(target, "file"))
	must(t, err)
	must(t, unix.Unmount(target, unix.MNT_DETACH)) // gone from every list, still mounted
	wantError(t, s.Detach("node-1", id), disk.ErrInUse, "unknown user")
	assertUntouched(t, s, dir, id, d)
	must(t, f.Close())
	must(t, s.Detach("node-1", id))
	assertNothingAttached(t, s, dir)
}

func TestADeviceUnderAnotherLoopDeviceIsNotDetached(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, mib)
	node := attach(t, s, "node-1", id)
	d := loopOf(t, node)
	opener := loop.NewOpener(dir)
	above, err := opener.Bind(node, "above", false)
	must(t, err)
	wantError(t, s.Detach("node-1", id), disk.ErrInUse, d.Name())
	assertUntouched(t, s, dir, id, d)
	must(t, opener.Unbind(above, func() error { return nil }))
	must(t, s.Detach("node-1", id))
	assertNothingAttached(t, s, dir)
}
