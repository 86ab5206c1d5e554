package filesystem

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

// mounted returns a formatted device and where it is mounted.
func mounted(t *testing.T, f *FS, fsType string, options ...string) (*looptest.Device, string) {
	t.Helper()
	d := formattedDisk(t, f, fsType)
	target := mountDir(t)
	if err := f.Mount(soon(t), d.Path, target, typed(fsType), options); err != nil {
		t.Fatal(err)
	}
	return d, target
}

// count returns how many mounts are exactly at target.
func count(t *testing.T, target string) int {
	t.Helper()
	infos, err := readMounts()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, info := range infos {
		if info.Mountpoint == target {
			n++
		}
	}
	return n
}

func TestAMountIsFoundByItsTargetAndByItsDevice(t *testing.T) {
	f := New(Options{})
	for _, fsType := range append(kinds(), ext2) {
		t.Run(fsType, func(t *testing.T) {
			d, target := mounted(t, f, fsType, "noatime")
			m, there, err := f.Lookup(target)
			if err != nil || !there {
				t.Fatal(there, err)
			}
			if m.Number != d.Number || m.Root != "/" || m.FSType != fsType || m.ReadOnly || m.Target != target ||
				!slices.Contains(m.Options, "noatime") || !slices.Contains(m.SuperOptions, "rw") {
				t.Errorf("%+v", m)
			}
			if xfsNoUUID := slices.Contains(m.SuperOptions, "nouuid"); xfsNoUUID != (fsType == xfs) {
				t.Errorf("nouuid: %v", m.SuperOptions)
			}
			bound := mountDir(t)
			if err := f.Bind(soon(t), target, bound, false, nil); err != nil {
				t.Fatal(err)
			}
			mounts, err := f.MountsOf(d.Number)
			if err != nil || len(mounts) != 2 {
				t.Errorf("MountsOf: %+v, %v", mounts, err)
			}
		})
	}
}

func TestARepeatedMountIsNotStacked(t *testing.T) {
	f := New(Options{})
	for _, fsType := range kinds() {
		d, target := mounted(t, f, fsType)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := f.Mount(soon(t), d.Path, target, typed(fsType), nil); err != nil {
					t.Errorf("%s: %v", fsType, err)
				}
			})
		}
		wg.Wait()
		if n := count(t, target); n != 1 {
			t.Errorf("%s: %d mounts", fsType, n)
		}
		if err := f.Mount(soon(t), d.Path, target, typed(fsType), []string{"ro"}); !errors.Is(err, ErrMounted) {
			t.Errorf("%s: asked to be read-only: %v", fsType, err)
		}
	}
}

func TestATargetWithAnotherMountIsRefused(t *testing.T) {
	f := New(Options{})
	_, target := mounted(t, f, ext4)
	other := formattedDisk(t, f, ext4)
	if err := f.Mount(soon(t), other.Path, target, typed(ext4), nil); !errors.Is(err, ErrMounted) {
		t.Errorf("%v", err)
	}
	if n := count(t, target); n != 1 {
		t.Errorf("%d mounts", n)
	}
}

func TestAnotherFilesystemThanAskedIsNotMounted(t *testing.T) {
	f := New(Options{})
	d := formattedDisk(t, f, xfs)
	target := mountDir(t)
	before := d.Hash(t)
	for _, fsType := range []string{ext4, btrfs} {
		if err := f.Mount(soon(t), d.Path, target, typed(fsType), nil); err == nil {
			t.Errorf("mounted as %s", fsType)
		}
	}
	if count(t, target) != 0 || d.Hash(t) != before {
		t.Error("something was done")
	}
}

func TestATargetMustBeADirectoryThatExists(t *testing.T) {
	f := New(Options{})
	d := formattedDisk(t, f, ext4)
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{link, file, filepath.Join(dir, "missing"), "relative", ""} {
		if err := f.Mount(soon(t), d.Path, target, typed(ext4), nil); err == nil {
			t.Errorf("mounted at %q", target)
		}
	}
	if mounts, err := f.MountsOf(d.Number); err != nil || len(mounts) != 0 {
		t.Errorf("%v, %v", mounts, err)
	}
}

func TestAClonedXFSIsMountedBesideItsOrigin(t *testing.T) {
	f := New(Options{})
	d, target := mounted(t, f, xfs)
	if err := os.WriteFile(filepath.Join(target, "file"), []byte("origin"), 0o600); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	copied := filepath.Join(t.TempDir(), "copy")
	run(t, "cp", "--sparse=always", d.Backing, copied)
	clone := looptest.New(t, looptest.Options{File: copied})
	beside := mountDir(t)
	if err := f.Mount(soon(t), clone.Path, beside, typed(xfs), nil); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(beside, "file"))
	if err != nil || string(data) != "origin" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestAClonedBtrfsIsNeverMistakenForItsOrigin(t *testing.T) {
	f := New(Options{})
	d, target := mounted(t, f, btrfs)
	copied := filepath.Join(t.TempDir(), "copy")
	run(t, "cp", "--sparse=always", d.Backing, copied)
	clone := looptest.New(t, looptest.Options{File: copied})
	beside := mountDir(t)
	kernel, err := kernelVersion()
	if err != nil {
		t.Fatal(err)
	}
	err = f.Mount(soon(t), clone.Path, beside, typed(btrfs), nil)
	if kernel.compare(version{6, 7}) < 0 {
		if err == nil || count(t, beside) != 0 {
			t.Errorf("%v, %d mounts", err, count(t, beside))
		}
	} else { // the kernel gives it an identity of its own
		m, _, lookupErr := f.Lookup(beside)
		if err := errors.Join(err, lookupErr); err != nil || m.Number != clone.Number {
			t.Errorf("%+v, %v", m, err)
		}
	}
	m, _, err := f.Lookup(target)
	if err != nil || m.Number != d.Number {
		t.Errorf("the origin: %+v, %v", m, err)
	}
}

func TestABindIsReadOnlyWhereItShouldBe(t *testing.T) {
	f := New(Options{})
	_, staged := mounted(t, f, ext4)
	writable, readOnly := mountDir(t), mountDir(t)
	if err := f.Bind(soon(t), staged, writable, false, []string{"noexec,discard", "nosuid"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Bind(soon(t), staged, readOnly, true, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(writable, "file"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(readOnly, "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("written through a read-only bind: %v", err)
	}
	m, _, err := f.Lookup(writable)
	if err != nil || !slices.Contains(m.Options, "noexec") || !slices.Contains(m.Options, "nosuid") {
		t.Errorf("%+v, %v", m, err)
	}
	if m, _, err := f.Lookup(staged); err != nil || m.ReadOnly || slices.Contains(m.Options, "noexec") {
		t.Errorf("the source: %+v, %v", m, err)
	}
}

func TestARepeatedBindIsNotStacked(t *testing.T) {
	f := New(Options{})
	_, staged := mounted(t, f, ext4)
	_, other := mounted(t, f, ext4)
	target := mountDir(t)
	for range 3 {
		if err := f.Bind(soon(t), staged, target, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Bind(soon(t), other, target, false, nil); !errors.Is(err, ErrMounted) {
		t.Errorf("another source: %v", err)
	}
	if n := count(t, target); n != 1 {
		t.Errorf("%d mounts", n)
	}
}

func TestABindThatEndedHalfWayIsMadeReadOnly(t *testing.T) {
	f := New(Options{})
	_, staged := mounted(t, f, ext4)
	target := mountDir(t)
	if err := f.Bind(soon(t), staged, target, false, []string{"noexec"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Bind(soon(t), staged, target, true, []string{"noexec"}); err != nil {
		t.Fatal(err)
	}
	if m, _, err := f.Lookup(target); err != nil || !m.ReadOnly || !slices.Contains(m.Options, "noexec") || count(t, target) != 1 {
		t.Errorf("%+v, %v, %d mounts", m, err, count(t, target))
	}
	if err := f.Bind(soon(t), staged, target, false, nil); !errors.Is(err, ErrMounted) {
		t.Errorf("asked to be writable: %v", err)
	}
}

func TestADeviceNodeIsBoundOnce(t *testing.T) {
	f := New(Options{})
	d, other := blankDisk(t), blankDisk(t)
	target := filepath.Join(t.TempDir(), "node")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	unmountAfter(t, target)
	for range 3 {
		if err := f.Bind(soon(t), d.Path, target, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil || st.Rdev != d.Number || count(t, target) != 1 {
		t.Errorf("%v, device %s, %d mounts", err, blockdev.FormatNumber(st.Rdev), count(t, target))
	}
	if err := f.Bind(soon(t), other.Path, target, false, nil); !errors.Is(err, ErrMounted) {
		t.Errorf("another device: %v", err)
	}
	if err := f.Unmount(soon(t), target); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(target); err != nil || info.Size() != 0 || !info.Mode().IsRegular() {
		t.Errorf("the target itself: %v, %v", info, err)
	}
}

func TestABindIsNotMadeAtASymlinkNorAtNothing(t *testing.T) {
	f := New(Options{})
	_, staged := mounted(t, f, ext4)
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{link, filepath.Join(dir, "missing")} {
		if err := f.Bind(soon(t), staged, target, false, nil); err == nil {
			t.Errorf("bound at %s", target)
		}
	}
}

func TestUnmountTakesAwayAllThatIsStacked(t *testing.T) {
	f := New(Options{})
	_, target := mounted(t, f, ext4)
	for range 4 {
		if err := unix.Mount(target, target, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, target); n != 5 {
		t.Fatalf("%d mounts", n)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := f.Unmount(soon(t), target); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := count(t, target); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
	if _, err := os.Stat(target); err != nil {
		t.Errorf("the target itself: %v", err)
	}
}

func TestUnmountOfNothingIsDone(t *testing.T) {
	f := New(Options{})
	dir := t.TempDir()
	_, target := mounted(t, f, ext4)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "missing"), filepath.Join(dir, "missing", "too"), link} {
		if err := f.Unmount(soon(t), path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if count(t, target) != 1 {
		t.Error("a symlink to the target was followed")
	}
	if err := f.Unmount(soon(t), "relative"); err == nil {
		t.Error("a relative path was accepted")
	}
}

func TestAMountIsReachedThroughASymlinkAbove(t *testing.T) {
	f := New(Options{})
	d, target := mounted(t, f, ext4)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Dir(target), link); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(link, filepath.Base(target))
	m, there, err := f.Lookup(path)
	if err != nil || !there || m.Number != d.Number {
		t.Errorf("%+v, %t, %v", m, there, err)
	}
	if err := f.Unmount(soon(t), path); err != nil || count(t, target) != 0 {
		t.Errorf("%v, %d mounts left", err, count(t, target))
	}
}

func TestABusyMountStays(t *testing.T) {
	f := New(Options{})
	_, target := mounted(t, f, xfs)
	file, err := os.Create(filepath.Join(target, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Unmount(soon(t), target); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Unmount(soon(t), target); err != nil {
		t.Errorf("when it is free: %v", err)
	}
}

func TestAMountThatIsHiddenIsNotReportedGone(t *testing.T) {
	f := New(Options{})
	_, target := mounted(t, f, ext4)
	above := filepath.Dir(target)
	run(t, "mount", "-t", "tmpfs", "none", above)
	unmountAfter(t, above)
	if err := f.Unmount(soon(t), target); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
}

func TestADeadFilesystemIsUnmounted(t *testing.T) {
	f := New(Options{})
	_, target := mounted(t, f, xfs)
	root, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	const goingDown, withoutLog = ioctlRead | 4<<16 | 'X'<<8 | 125, 2
	how := make([]byte, 4)
	binary.NativeEndian.PutUint32(how, withoutLog)
	err = ioctl(root, goingDown, how)
	if err := errors.Join(err, root.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadDir(target); err == nil {
		t.Error("the filesystem is still alive")
	}
	if _, there, err := f.Lookup(target); err != nil || !there {
		t.Errorf("Lookup: %t, %v", there, err)
	}
	if err := f.Unmount(soon(t), target); err != nil || count(t, target) != 0 {
		t.Errorf("%v, %d mounts left", err, count(t, target))
	}
}

func TestMountOptionsOfEachFilesystem(t *testing.T) {
	tests := []struct {
		fsType  string
		options []string
		want    string
	}{
		{ext4, nil, ""},
		{ext4, []string{"noatime", "ro"}, "noatime ro noload"},
		{ext4, []string{"ro", "rw"}, "ro rw"},
		{ext2, []string{"ro"}, "ro"},
		{xfs, nil, "nouuid"},
		{xfs, []string{"nouuid", "ro,noatime"}, "nouuid ro,noatime norecovery"},
		{btrfs, []string{"ro"}, "ro rescue=nologreplay"},
		{ext4, []string{`context="system_u:object_r:container_file_t:s0:c1,c2"`}, `context="system_u:object_r:container_file_t:s0:c1,c2"`},
	}
	for _, test := range tests {
		if got := strings.Join(typed(test.fsType).mountOptions(test.options), " "); got != test.want {
			t.Errorf("%s %v: %q, want %q", test.fsType, test.options, got, test.want)
		}
	}
}

func TestAPathLiesOnTheNearestMount(t *testing.T) {
	f := New(Options{})
	d, target := mounted(t, f, ext4)
	for _, path := range []string{target, target + "/lost+found", target + "/missing/deeper"} {
		if m, err := f.Under(path); err != nil || m.Target != target || m.Number != d.Number {
			t.Errorf("%s: %+v, %v", path, m, err)
		}
	}
	if m, err := f.Under(target + "-not"); err != nil || m.Target == target {
		t.Errorf("beside it: %+v, %v", m, err)
	}
	if m, err := f.Under("/"); err != nil || m.Target != "/" {
		t.Errorf("the root: %+v, %v", m, err)
	}
	if _, err := f.Under("relative"); err == nil {
		t.Error("a relative path lies on a mount")
	}
}

func TestAMountTellsWhetherOthersSeeWhatIsMountedBelow(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	for name, flag := range map[string]uintptr{"shared": unix.MS_SHARED, "private": unix.MS_PRIVATE, "slave": unix.MS_SLAVE} {
		if err := unix.Mount("", dir, "", flag, ""); err != nil {
			t.Fatal(err)
		}
		under, err := New(Options{}).Under(filepath.Join(dir, "pods", "x"))
		if err != nil || under.Target != dir || under.Shared != (name == "shared") {
			t.Errorf("%s: got %+v, %v", name, under, err)
		}
	}
}

// TestTheDiskOfABtrfsIsItsOwnWhateverHasItsNameNow: udev gives names anew.
func TestTheDiskOfABtrfsIsItsOwnWhateverHasItsNameNow(t *testing.T) {
	f := New(Options{})
	d := formattedDisk(t, f, btrfs)
	node := filepath.Join(t.TempDir(), "vdb")
	named := func(number uint64) {
		_ = os.Remove(node)
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(number)); err != nil {
			t.Fatal(err)
		}
	}
	named(d.Number)
	dir := mountDir(t)
	if err := f.Mount(soon(t), node, dir, typed(btrfs), nil); err != nil {
		t.Fatal(err)
	}
	named(blankDisk(t).Number)
	if m, _, err := f.Lookup(dir); err != nil || m.Number != d.Number {
		t.Errorf("another disk has its name: %+v, %v, want %s", m, err, blockdev.FormatNumber(d.Number))
	}
	if err := os.Remove(node); err != nil {
		t.Fatal(err)
	}
	if m, _, err := f.Lookup(dir); err != nil || m.Number != d.Number {
		t.Errorf("its name is gone: %+v, %v, want %s", m, err, blockdev.FormatNumber(d.Number))
	}
}

// TestMountsOfOtherDisksAreNotLookedAt: a node has thousands, and each call reads them
// several times.
func TestMountsOfOtherDisksAreNotLookedAt(t *testing.T) {
	infos, err := readMounts()
	if err != nil {
		t.Fatal(err)
	}
	f, nobodys := New(Options{}), unix.Mkdev(7, 1<<19)
	reading := testing.AllocsPerRun(10, func() { _, err = readMounts() })
	looking := testing.AllocsPerRun(10, func() { _, err = f.MountsOf(nobodys) })
	if most := float64(200 + 2*len(infos)); err != nil || looking-reading > most {
		t.Errorf("%d mounts: %v allocations to read them, and %v to look for those of a disk, %v", len(infos), reading, looking, err)
	}
}
