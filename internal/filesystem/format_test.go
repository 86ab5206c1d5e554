package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

func TestADeviceTooSmallIsLeftAlone(t *testing.T) {
	f := New(Options{})
	for fsType, size := range map[string]int64{ext3: mib, ext4: mib, xfs: 299 * mib, btrfs: 100 * mib} {
		d := looptest.New(t, looptest.Options{Size: size})
		before := d.Hash(t)
		if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), nil); !errors.Is(err, ErrTooSmall) {
			t.Errorf("%s: %v", fsType, err)
		}
		if d.Hash(t) != before {
			t.Errorf("%s: the content has changed", fsType)
		}
	}
}

func TestTheSmallestDeviceCanBeFormatted(t *testing.T) {
	f := New(Options{})
	for _, fsType := range append(kinds(), ext2) {
		d := looptest.New(t, looptest.Options{Size: typed(fsType).smallest})
		if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), nil); err != nil {
			t.Errorf("%s: %v", fsType, err)
		}
	}
}

func TestAReadOnlyDeviceIsNotFormatted(t *testing.T) {
	d := looptest.New(t, looptest.Options{Size: 512 * mib, ReadOnly: true})
	refused(t, New(Options{}), d, ErrReadOnly)
}

func TestADeviceThatSomethingElseUsesIsNotFormatted(t *testing.T) {
	f := New(Options{})
	d := blankDisk(t)
	holder, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	before := d.Hash(t)
	if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(ext4), nil); !errors.Is(err, ErrBusy) || d.Hash(t) != before {
		t.Errorf("while it is held: %v", err)
	}
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(ext4), nil); err != nil {
		t.Errorf("when it is free again: %v", err)
	}
}

func TestAMountedDeviceIsNotFormatted(t *testing.T) {
	f := New(Options{})
	for _, fsType := range kinds() {
		t.Run(fsType, func(t *testing.T) {
			d, target := mounted(t, f, fsType)
			for _, wanted := range kinds() {
				if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(wanted), nil); !errors.Is(err, ErrBusy) {
					t.Errorf("Format as %s: %v", wanted, err)
				}
			}
			// Mounted like this it doesn't change by itself.
			if err := f.Unmount(soon(t), target); err != nil {
				t.Fatal(err)
			}
			if err := f.Mount(soon(t), d.Path, target, typed(fsType), []string{"ro"}); err != nil {
				t.Fatal(err)
			}
			refused(t, f, d, ErrBusy)
		})
	}
}

func TestAnUnsupportedFilesystemIsRefused(t *testing.T) {
	for _, fsType := range []string{"", "vfat", "ntfs", "ext5", "xfs -f", "../mkfs"} {
		if _, err := TypeOf(fsType); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%q: %v", fsType, err)
		}
	}
}

func TestOptionsShapeTheFilesystem(t *testing.T) {
	f := New(Options{})
	d := blankDisk(t)
	options := []string{"-b", "1024", "-N", "8192", "-E", "stride=4,lazy_itable_init=0", "-L", "data"}
	if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(ext4), parsed(ext4, options)); err != nil {
		t.Fatal(err)
	}
	shown := run(t, "dumpe2fs", "-h", d.Path)
	for _, line := range []string{"Block size:               1024", "Inode count:              8192", "RAID stride:              4", "Reserved block count:     0"} {
		if !strings.Contains(shown, line) {
			t.Errorf("dumpe2fs doesn't say %q", line)
		}
	}
	for _, fsType := range []string{ext2, ext3, ext4} {
		d = blankDisk(t)
		if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), parsed(fsType, []string{"-m", "10"})); err != nil {
			t.Errorf("%s -m 10: %v", fsType, err)
		}
	}
	d = blankDisk(t)
	if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(xfs), parsed(xfs, []string{"-i", "size=1024", "-m", "reflink=0"})); err != nil {
		t.Errorf("xfs: %v", err)
	}
	d = blankDisk(t)
	if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(btrfs), parsed(btrfs, []string{"--nodesize", "32768"})); err != nil {
		t.Errorf("btrfs: %v", err)
	}
}

func TestOptionsThatCouldDoHarmAreRefused(t *testing.T) {
	tests := []struct {
		fsType  string
		options []string
	}{
		{ext4, []string{"-n", "1"}},
		{ext4, []string{"-b", "1024", "-b", "4096"}},
		{ext4, []string{"-d", "/etc"}},
		{ext4, []string{"-b"}},
		{ext4, []string{"-b", "-F"}},
		{ext4, []string{"-b", "4096;reboot"}},
		{ext4, []string{"-b", ""}},
		{ext4, []string{"-E", "offset=1048576"}},
		{ext4, []string{"-J", "device=/dev/vda"}},
		{ext4, []string{"/dev/vda", "1"}},
		{xfs, []string{"-N", "-f"}},
		{xfs, []string{"-l", "logdev=/dev/vda,size=10m"}},
		{xfs, []string{"-d", "name=/dev/vda"}},
		{xfs, []string{"-r", "rtdev=/dev/vda"}},
		{xfs, []string{"-p", "protofile"}},
		{xfs, []string{"-c", "options"}},
		{btrfs, []string{"-f", "1"}},
		{btrfs, []string{"--force", "1"}},
		{btrfs, []string{"--rootdir", "/"}},
	}
	for _, test := range tests {
		if _, err := typed(test.fsType).dialect().Parse(test.options); !errors.Is(err, mkfs.ErrOptions) {
			t.Errorf("%s %v: %v", test.fsType, test.options, err)
		}
	}
}

func TestToolsAreNeverToldToUseForce(t *testing.T) {
	f := New(Options{})
	for _, fsType := range append(kinds(), ext2) {
		arguments, err := typed(fsType).mkfsArguments(t.Context(), f, nil, 10*gib)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(arguments, func(a string) bool { return a == "-F" || a == "-f" || a == "--force" }) {
			t.Errorf("%s: %v", fsType, arguments)
		}
	}
}

func TestFeaturesThatTheKernelCannotMountAreTurnedOff(t *testing.T) {
	tests := []struct {
		fsType       string
		tool, kernel version
		want         string
	}{
		{xfs, version{6, 1}, version{6, 18}, ""},
		{xfs, version{6, 1}, version{5, 4}, "-m bigtime=0 -m inobtcount=0 -i nrext64=0"},
		{xfs, version{6, 13}, version{6, 1}, "-i exchange=0 -n parent=0 -m metadir=0"},
		{xfs, version{5, 10}, version{5, 4}, ""},
		{ext4, version{1, 47}, version{5, 10}, "-O ^orphan_file"},
		{ext4, version{1, 46}, version{5, 10}, ""},
		{btrfs, version{6, 2}, version{4, 19}, ""},
	}
	for _, test := range tests {
		if got := strings.Join(typed(test.fsType).unmountable(test.tool, test.kernel).Arguments(), " "); got != test.want {
			t.Errorf("%s %v on %v: %q, want %q", test.fsType, test.tool, test.kernel, got, test.want)
		}
	}
}

func TestConcurrentCallsFormatOnce(t *testing.T) {
	for _, fsType := range kinds() {
		g := newGate("mkfs." + fsType)
		f := New(Options{Exec: g.exec()})
		d := blankDisk(t)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = f.Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), nil) })
		}
		<-g.arrived
		close(g.open)
		wg.Wait()
		if g.started != 1 {
			t.Errorf("%s: mkfs ran %d times", fsType, g.started)
		}
		for _, err := range errs {
			// One that came after mkfs had ended finds the filesystem.
			if err != nil && !errors.Is(err, ErrNotBlank) {
				t.Errorf("%s: %v", fsType, err)
			}
		}
	}
}

func TestABoundedNumberOfMkfsRunsAtOnce(t *testing.T) {
	g := newGate("mkfs.ext4")
	f := New(Options{Exec: g.exec()})
	var wg sync.WaitGroup
	for range 5 {
		d := blankDisk(t)
		wg.Go(func() {
			if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(ext4), nil); err != nil {
				t.Error(err)
			}
		})
	}
	<-g.arrived
	<-g.arrived
	close(g.open)
	wg.Wait()
	if g.started != 5 || g.most != 2 {
		t.Errorf("%d mkfs ran, %d at once; want 5 and 2", g.started, g.most)
	}
}

func TestACancelledFormatRunsToItsEnd(t *testing.T) {
	for _, fsType := range kinds() {
		t.Run(fsType, func(t *testing.T) {
			g := newGate("mkfs." + fsType)
			f := New(Options{Exec: g.exec()})
			d := blankDisk(t)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-g.arrived
				cancel()
			}()
			err := f.Format(ctx, Device{Path: d.Path}, Quick, typed(fsType), nil)
			if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrBusy) {
				t.Errorf("cancelled: %v", err)
			}
			later := make(chan error, 1)
			go func() { later <- f.Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), nil) }()
			g.open <- struct{}{}
			if err := <-later; err != nil && !errors.Is(err, ErrNotBlank) {
				t.Errorf("asked again: %v", err)
			}
			if err := f.Drain(soon(t)); err != nil {
				t.Error(err)
			}
			content, err := f.Probe(soon(t), Device{Path: d.Path})
			if err != nil || content.Type != fsType || g.started != 1 {
				t.Errorf("Probe: %+v, %v, after %d mkfs", content, err, g.started)
			}
		})
	}
}

func TestAFormatThatWaitsForItsTurnEndsWithItsCall(t *testing.T) {
	g := newGate("mkfs.ext4")
	f := New(Options{Exec: g.exec()})
	f.formats = make(semaphore, 1)
	first, second := blankDisk(t), blankDisk(t)
	done := make(chan error, 1)
	go func() { done <- f.Format(soon(t), Device{Path: first.Path}, Quick, typed(ext4), nil) }()
	<-g.arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := second.Hash(t)
	if err := f.Format(ctx, Device{Path: second.Path}, Quick, typed(ext4), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { waiting <- f.Format(ctx, Device{Path: second.Path}, Quick, typed(ext4), nil) }()
	joined := make(chan error, 1)
	go func() { joined <- f.Format(soon(t), Device{Path: second.Path}, Quick, typed(ext4), nil) }()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while waiting: %v", err)
	}
	if second.Hash(t) != before {
		t.Error("the second device was written to")
	}
	close(g.open)
	if err := errors.Join(<-done, <-joined); err != nil {
		t.Errorf("those that weren't cancelled: %v", err)
	}
}

func TestFormatSaysWhatMkfsSaid(t *testing.T) {
	d := blankDisk(t)
	err := New(Options{}).Format(soon(t), Device{Path: d.Path}, Quick, typed(ext4), parsed(ext4, []string{"-b", "1024", "-I", "2048"}))
	if err == nil || !strings.Contains(err.Error(), "invalid inode size 2048") {
		t.Errorf("%v", err)
	}
	if fmt.Sprint(err) != strings.ReplaceAll(fmt.Sprint(err), "\n", "") {
		t.Errorf("more than one line: %q", err)
	}
}

// TestEachTypeSaysAllThatIsAskedOfIt: nothing that is missing has a default.
func TestEachTypeSaysAllThatIsAskedOfIt(t *testing.T) {
	programs := Programs()
	for _, fs := range Types() {
		family := typed(fs.family)
		if family.family != family.Name || fs.capability == 0 || fs.smallest < mib || fs.dialect == nil || fs.defaults == nil ||
			fs.parse == nil || fs.copies == nil || fs.isCopy == nil || fs.growMounted == nil || len(fs.mountReadOnly) == 0 && fs.Name != ext2 {
			t.Errorf("%s: %+v", fs.Name, fs)
		}
		if _, err := fs.dialect().Parse([]string{"--no-such-option"}); err == nil || !strings.Contains(err.Error(), "mkfs."+fs.Name) {
			t.Errorf("the mkfs of %s: %v", fs.Name, err)
		}
		for _, name := range append(fs.programs, "mkfs."+fs.Name) {
			if !slices.Contains(programs, name) {
				t.Errorf("%s is not among the programs", name)
			}
		}
	}
}
