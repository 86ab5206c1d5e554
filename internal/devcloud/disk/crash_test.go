package disk_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

func TestAnInterruptedCallIsCompletedOrUndoneWhenTheStoreIsOpened(t *testing.T) {
	type scene struct {
		dir, id, node, link string
		loop                loop.Device
	}
	for name, interrupt := range map[string]func(*testing.T, scene){
		"nothing was interrupted": func(*testing.T, scene) {},
		"the loop device is bound, without a node": func(t *testing.T, c scene) {
			must(t, os.Remove(c.link))
			must(t, os.Remove(c.node))
		},
		"the node is there, without the link": func(t *testing.T, c scene) { must(t, os.Remove(c.link)) },
		"the node belongs to another loop device": func(t *testing.T, c scene) {
			must(t, os.Remove(c.node))
			must(t, unix.Mknod(c.node, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 4095))))
		},
		"the link leads elsewhere": func(t *testing.T, c scene) {
			must(t, os.Remove(c.link))
			must(t, os.Symlink("../../vdq", c.link))
		},
		"the whole server directory is gone": func(t *testing.T, c scene) {
			must(t, os.RemoveAll(filepath.Join(c.dir, "servers/node-1")))
		},
		"unfinished files lie about": func(t *testing.T, c scene) {
			for _, name := range []string{"volumes/.tmp-1", "snapshots/.tmp-2", "servers/node-1/.tmp-3", "servers/node-1/dev/.tmp-vdb", ".tmp-node-1"} {
				must(t, os.WriteFile(filepath.Join(c.dir, name), []byte("half"), 0o600))
			}
		},
		"nodes and links of devices that are gone lie about": func(t *testing.T, c scene) {
			must(t, unix.Mknod(filepath.Join(filepath.Dir(c.node), "vdx"), unix.S_IFBLK|0o600, int(c.loop.Rdev)))
			must(t, os.Symlink("../../vdx", filepath.Join(filepath.Dir(c.link), "virtio-"+uuid.NewString()[:20])))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := newStore(t)
			id := newVolume(t, s, mib)
			node := attach(t, s, "node-1", id)
			link := filepath.Join(s.DeviceDir("node-1"), "disk/by-id/virtio-"+id[:20])
			d := loopOf(t, node)
			must(t, s.Close())
			interrupt(t, scene{dir, id, node, link, d})

			s = openStore(t, dir)
			assertSound(t, s, dir)
			assertUntouched(t, s, dir, id, d)
			if again := attach(t, s, "node-1", id); again != node {
				t.Errorf("attached as %s, then as %s", node, again)
			}
			s = reopen(t, s, dir)
			must(t, s.Detach("node-1", id))
			assertNothingAttached(t, s, dir)
		})
	}
}

func TestADetachThatWasKilledInTheLazyMomentIsUndone(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, mib)
	node := attach(t, s, "node-1", id)
	d := loopOf(t, node)
	f, err := os.Open(node)
	must(t, err)
	must(t, unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)) // with one opener it would go
	if bound, err := loop.Bound(d); err != nil || !bound {
		t.Fatalf("bound: %t, %v", bound, err)
	}
	must(t, f.Close())
	if bound, _ := loop.Bound(d); bound {
		t.Fatal("the device outlived its last user")
	}

	node = attach(t, s, "node-1", id)
	d = loopOf(t, node)
	user, err := os.Open(node)
	must(t, err)
	f, err = os.Open(node)
	must(t, err)
	must(t, unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)) // with two it would go later
	must(t, f.Close())
	s = reopen(t, s, dir)
	must(t, user.Close())
	assertUntouched(t, s, dir, id, d)
}

func TestADeviceWhoseVolumeWasRemovedByForceIsReleased(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, mib)
	attach(t, s, "node-1", id)
	must(t, os.Remove(s.Path(disk.FromVolume(id))))
	s = reopen(t, s, dir)
	assertNothingAttached(t, s, dir)
}

func TestAStoreIsOpenOnce(t *testing.T) {
	s, dir := newStore(t)
	_, err := disk.Open(dir)
	wantError(t, err, disk.ErrInUse, dir)
	reopen(t, s, dir)
}

func TestAMountWithoutDeviceNodesIsRefusedWhenTheStoreIsOpened(t *testing.T) {
	dir := newDir(t)
	must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV, "size=1m"))
	if _, err := disk.Open(dir); err == nil || !strings.Contains(err.Error(), "nodev") {
		t.Errorf("error %v does not tell of nodev", err)
	}
}

// assertSound checks that what the store tells, what the kernel tells and what the
// servers see is the same, and that nothing unfinished is left.
func assertSound(t *testing.T, s *disk.Store, dir string) {
	t.Helper()
	attached := s.Attachments()
	if bound := boundBelow(t, dir); len(bound) != len(attached) {
		t.Errorf("%d loop devices are bound, %d volumes attached", len(bound), len(attached))
	}
	for _, a := range attached {
		node := byID(t, s, a.Server, a.VolumeID)
		if d := loopOf(t, node); d.Name() != a.Loop || d.File != s.Path(disk.FromVolume(a.VolumeID)) {
			t.Errorf("%+v: the node leads to %+v", a, d)
		}
	}
	for pattern, want := range map[string]int{"servers/*/dev/vd*": len(attached), "servers/*/dev/disk/by-id/*": len(attached)} {
		if found, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(found) != want {
			t.Errorf("%s: %q, %v, want %d", pattern, found, err, want)
		}
	}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if strings.Contains(path, "/.tmp-") {
			t.Errorf("left: %s", path)
		}
		return err
	})
	must(t, err)
}

// victimVolumes is how many volumes the process to be killed works on.
const victimVolumes = 6

func victimID(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", n) }

// victim works on the store at dir until it is killed.
func victim(dir string) int {
	s, err := disk.Open(dir)
	if err != nil {
		return told(err)
	}
	_, _ = os.Stdout.WriteString("working\n")
	for n := range victimVolumes - 1 {
		go churn(s, victimID(n))
	}
	churn(s, victimID(victimVolumes-1))
	return 1
}

func churn(s *disk.Store, id string) {
	for {
		server := fmt.Sprintf("node-%d", 1+rand.IntN(2))
		snapshot := uuid.NewString()
		steps := []func() error{
			func() error { return s.Copy(id, disk.FromSnapshot(victimID(99)), 4*mib) },
			func() error { _, err := s.Attach(server, id, false); return err },
			func() error { return s.Extend(id, 8*mib) },
			func() error { return s.GrowAttached(id) },
			func() error { return s.Snapshot(snapshot, id) },
			func() error { return s.Detach("node-1", id) },
			func() error { return s.Detach("node-2", id) },
			func() error { return s.Restore(id, disk.FromSnapshot(victimID(99))) },
			func() error { return s.DeleteVolume(id) },
			func() error { return s.DeleteSnapshot(snapshot) },
		}
		for i, step := range steps {
			if err := step(); err != nil {
				_ = told(fmt.Errorf("step %d: %w", i, err))
				return
			}
		}
	}
}

func TestAKilledProcessLeavesNothingHalfDone(t *testing.T) {
	s, dir := newStore(t)
	original, content := newVolume(t, s, 4*mib), random(int(3*mib))
	write(t, s.Path(disk.FromVolume(original)), content, 0)
	must(t, s.Snapshot(victimID(99), original))
	for range 12 {
		must(t, s.Close())
		killDuringWork(t, dir)
		s = openStore(t, dir)
		assertSound(t, s, dir)
		for _, kind := range []disk.Kind{disk.KindVolume, disk.KindSnapshot} {
			ids, err := s.List(kind)
			must(t, err)
			for _, id := range ids {
				path := s.Path(disk.Source{Kind: kind, ID: id})
				if !bytes.Equal(read(t, path, len(content), 0), content) {
					t.Errorf("%s is a part of what it should be", path)
				}
			}
		}
	}
	for n := range victimVolumes { // and everything can be gone on with
		for _, server := range []string{"node-1", "node-2"} {
			must(t, s.Detach(server, victimID(n)))
		}
		must(t, s.DeleteVolume(victimID(n)))
	}
	assertNothingAttached(t, s, dir)
}

// killDuringWork runs a process on the store and kills it at an arbitrary moment.
func killDuringWork(t *testing.T, dir string) {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "DISK_TEST_PROCESS=victim", "DISK_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	said := make([]byte, 4096)
	n, err := out.Read(said)
	if err == nil && string(said[:n]) == "working\n" {
		time.Sleep(time.Duration(5+rand.IntN(150)) * time.Millisecond) // the moment is the test's input
		must(t, cmd.Process.Kill())
		n, _ = out.Read(said) // nothing, or why it stopped
	}
	_ = cmd.Wait() // killed
	if n > 0 {
		t.Fatalf("the process said: %s", said[:n])
	}
}
