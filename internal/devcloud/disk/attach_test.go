package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

func TestAnAttachedVolumeIsABlockDeviceOfItsServerAlone(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, 64*mib)
	node := attach(t, s, "node-1", id)
	if want := filepath.Join(dir, "servers/node-1/dev/vdb"); node != want {
		t.Errorf("node %s, want %s", node, want)
	}
	d := loopOf(t, node)
	if want := filepath.Join(dir, "volumes/volume-"+id); d.File != want {
		t.Errorf("bound to %s, want %s", d.File, want)
	}
	if size := deviceSize(t, node); size != 64*mib {
		t.Errorf("size %d", size)
	}
	if entries, err := os.ReadDir(s.DeviceDir("node-2")); err != nil || len(entries) != 1 {
		t.Errorf("the other server sees %v, %v", entries, err)
	}
	content := random(4096)
	write(t, node, content, 8192)
	must(t, s.Detach("node-1", id))
	if !bytes.Equal(read(t, s.Path(disk.FromVolume(id)), 4096, 8192), content) {
		t.Error("what was written to the device is not in the volume")
	}
	assertNothingAttached(t, s, dir)
}

func assertNothingAttached(t *testing.T, s *disk.Store, dir string) {
	t.Helper()
	if all := s.Attachments(); len(all) > 0 {
		t.Errorf("attached: %+v", all)
	}
	if bound := boundBelow(t, dir); len(bound) > 0 {
		t.Errorf("bound: %+v", bound)
	}
	for _, pattern := range []string{"servers/*/dev/vd*", "servers/*/dev/.*", "servers/*/dev/disk/by-id/*", "servers/*/dev/disk/by-id/.*"} {
		if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
}

func TestARepeatedAttachReturnsTheSameDevice(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, mib)
	node := attach(t, s, "node-1", id)
	if again := attach(t, s, "node-1", id); again != node {
		t.Errorf("%s, then %s", node, again)
	}
	if bound := boundBelow(t, dir); len(bound) != 1 {
		t.Errorf("%d loop devices are bound", len(bound))
	}
	must(t, s.Detach("node-1", id))
	must(t, s.Detach("node-1", id))
	assertNothingAttached(t, s, dir)
}

func TestDevicesGetTheLowestFreeName(t *testing.T) {
	s, _ := newStore(t)
	var ids []string
	for i := range 27 {
		ids = append(ids, newVolume(t, s, mib))
		device, err := s.Attach("node-1", ids[i], false)
		must(t, err)
		want := "/dev/vd" + string(rune('b'+i))
		if i >= 25 {
			want = "/dev/vda" + string(rune('a'+i-25))
		}
		if device != want {
			t.Fatalf("device %d is %s, want %s", i, device, want)
		}
	}
	all := s.Attachments()
	if len(all) != 27 || all[0].Device != "/dev/vdb" || all[24].Device != "/dev/vdz" || all[26].Device != "/dev/vdab" {
		t.Errorf("attachments %+v", all)
	}
	must(t, s.Detach("node-1", ids[3]))
	device, err := s.Attach("node-1", newVolume(t, s, mib), false)
	if err != nil || device != "/dev/vde" {
		t.Errorf("the name that became free was not taken: %s, %v", device, err)
	}
}

func TestAReadOnlyAttachmentCanNotBeWritten(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, mib)
	_, err := s.Attach("node-1", id, true)
	must(t, err)
	node := byID(t, s, "node-1", id)
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("x"), 0)
		must(t, f.Close())
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to it: %v", err)
	}
	_, err = s.Attach("node-1", id, false)
	wantError(t, err, disk.ErrInvalid, "read-only")
	s = reopen(t, s, dir)
	if all := s.Attachments(); len(all) != 1 || !all[0].ReadOnly {
		t.Errorf("after opening again: %+v", all)
	}
}

func TestAVolumeOfSeveralServersIsOneFile(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, 16*mib)
	one, two := attach(t, s, "node-1", id), attach(t, s, "node-2", id)
	if loopOf(t, one) == loopOf(t, two) {
		t.Error("both servers have the same loop device")
	}
	must(t, s.Extend(id, 32*mib))
	must(t, s.GrowAttached(id))
	if a, b := deviceSize(t, one), deviceSize(t, two); a != 32*mib || b != 32*mib {
		t.Errorf("sizes %d and %d", a, b)
	}
	must(t, s.Detach("node-1", id))
	if size := deviceSize(t, two); size != 32*mib {
		t.Errorf("the second server's device now has %d bytes", size)
	}
	wantError(t, s.DeleteVolume(id), disk.ErrInUse, "server node-2")
	must(t, s.Detach("node-2", id))
	must(t, s.DeleteVolume(id))
	assertNothingAttached(t, s, dir)
}

func TestGrowthIsSeenOnlyWhenTheDevicesAreTold(t *testing.T) {
	s, _ := newStore(t)
	id := newVolume(t, s, 512*mib)
	node := attach(t, s, "node-1", id)
	run(t, "mkfs.xfs", "-q", node)
	target := mount(t, node, "xfs")
	must(t, s.Extend(id, 1024*mib))
	if size := deviceSize(t, node); size != 512*mib {
		t.Errorf("size %d before the device was told", size)
	}
	for range 2 {
		must(t, s.GrowAttached(id))
		if size := deviceSize(t, node); size != 1024*mib {
			t.Errorf("size %d after the device was told", size)
		}
	}
	run(t, "xfs_growfs", target)
	var st unix.Statfs_t
	must(t, unix.Statfs(target, &st))
	if size := int64(st.Blocks) * st.Bsize; size < 900*mib {
		t.Errorf("the filesystem has grown to %d only", size)
	}
	must(t, s.Extend(id, mib)) // never shrinks
	if size, err := s.Size(disk.FromVolume(id)); err != nil || size != 1024*mib {
		t.Errorf("the volume has %d bytes, %v", size, err)
	}
	unmount(t, target)
}

func TestWhatCanNotBeAttachedIsTold(t *testing.T) {
	s, dir := newStore(t)
	id, missing := newVolume(t, s, mib), uuid.NewString()
	for _, c := range []struct {
		server, id string
		want       error
	}{
		{"node-1", missing, disk.ErrNotFound},
		{"node-3", id, disk.ErrNotFound},
		{"../node-1", id, disk.ErrInvalid},
		{"", id, disk.ErrInvalid},
		{strings.Repeat("n", 51), id, disk.ErrInvalid},
		{"node-1", "volume", disk.ErrInvalid},
		{"node-1", strings.ToUpper(id), disk.ErrInvalid},
	} {
		_, err := s.Attach(c.server, c.id, false)
		wantError(t, err, c.want)
	}
	attach(t, s, "node-1", id)
	twin := id[:20] + "0000-000000000000"[1:]
	must(t, s.Create(twin, mib))
	_, err := s.Attach("node-1", twin, false)
	wantError(t, err, disk.ErrInvalid, id, "20 characters")
	must(t, s.Detach("node-1", id))
	must(t, s.Detach("node-1", missing))
	must(t, s.Detach("node-3", id))
	assertNothingAttached(t, s, dir)
}

func TestALoopDeviceThatSomebodyTookAwayIsForgotten(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, mib)
	node := attach(t, s, "node-1", id)
	must(t, loop.NewOpener(dir).Unbind(loopOf(t, node), func() error { return nil }))
	attach(t, s, "node-1", id)
	must(t, loop.NewOpener(dir).Unbind(loopOf(t, node), func() error { return nil }))
	must(t, s.Detach("node-1", id))
	assertNothingAttached(t, s, dir)
}

func TestALoopDeviceThatSomebodyAddedKeepsTheVolumeFromBeingDeleted(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, mib)
	foreign, err := loop.NewOpener(dir).Bind(s.Path(disk.FromVolume(id)), "by hand", false)
	must(t, err)
	s = reopen(t, s, dir)
	if all := s.Attachments(); len(all) > 0 {
		t.Errorf("it was taken for an attachment: %+v", all)
	}
	wantError(t, s.DeleteVolume(id), disk.ErrInUse, foreign.Name())
	must(t, s.Wipe())
	if bound := boundBelow(t, dir); len(bound) > 0 {
		t.Errorf("bound after Wipe: %+v", bound)
	}
}

func TestDevicesOfOneNameInTwoStoresAreNotTakenForEachOther(t *testing.T) {
	one, _ := newStore(t)
	two, _ := newStore(t)
	first := attach(t, one, "node-1", newVolume(t, one, 512*mib))
	run(t, "mkfs.btrfs", "-q", first)
	target := mount(t, first, "btrfs")
	run(t, "mkfs.btrfs", "-q", attach(t, two, "node-1", newVolume(t, two, 512*mib)))
	unmount(t, target)
}

func TestTheLongestServerNameSurvivesOpening(t *testing.T) {
	s, dir := newStore(t)
	server, id := strings.Repeat("n", 50), newVolume(t, s, mib)
	must(t, s.AddServer(server, nil))
	attach(t, s, server, id)
	before := s.Attachments()
	s = reopen(t, s, dir)
	if after := s.Attachments(); len(after) != 1 || after[0] != before[0] {
		t.Errorf("%+v, then %+v", before, after)
	}
}

func TestManyAttachAndDetachAtOnce(t *testing.T) {
	const servers, volumes, rounds = 4, 32, 5
	s, dir := newStore(t)
	for n := range servers {
		must(t, s.AddServer(fmt.Sprintf("node-%d", n+1), nil))
	}
	var wg sync.WaitGroup
	for n := range volumes {
		id, server := newVolume(t, s, mib), fmt.Sprintf("node-%d", n%servers+1)
		wg.Go(func() {
			for round := range rounds {
				if err := attachWriteDetach(s, server, id, fmt.Sprintf("%s %d", id, round)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	assertNothingAttached(t, s, dir)
	ids, err := s.List(disk.KindVolume)
	must(t, err)
	for _, id := range ids {
		want := fmt.Sprintf("%s %d", id, rounds-1)
		if got := read(t, s.Path(disk.FromVolume(id)), len(want), 0); string(got) != want {
			t.Errorf("volume %s holds %q, want %q: a device led to the wrong volume", id, got, want)
		}
	}
}

// attachWriteDetach does each step twice at once, as callers that lost an answer do.
func attachWriteDetach(s *disk.Store, server, id, text string) error {
	twice := func(do func() error) error {
		other := make(chan error)
		go func() { other <- do() }()
		return errors.Join(do(), <-other)
	}
	if err := twice(func() error { _, err := s.Attach(server, id, false); return err }); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.DeviceDir(server), "disk/by-id/virtio-"+id[:20]), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return twice(func() error { return s.Detach(server, id) })
}
