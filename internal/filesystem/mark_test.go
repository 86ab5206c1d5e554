package filesystem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	utilexec "k8s.io/utils/exec"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

const owner = "6a4b9c0e-3f1d-4e57-9a60-1f2e3d4c5b6a"

func owned(d *looptest.Device) Device { return Device{Path: d.Path, Owner: owner} }

// killedAfter has programs of mkfs killed after that time, once.
func killedAfter(pause time.Duration) utilexec.Interface {
	killed := false
	return hooked{Interface: utilexec.New(), hook: func(words []string, run func() ([]byte, error)) ([]byte, error) {
		if !strings.HasPrefix(filepath.Base(words[0]), "mkfs.") || len(words) < 3 || killed {
			return run()
		}
		killed = true
		cmd := exec.Command(words[0], words[1:]...)
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		time.Sleep(pause)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, errors.New("killed")
	}}
}

// halfWay returns a device whose mkfs was killed so that no filesystem is to be
// seen, with its mark.
func halfWay(t *testing.T, fsType string, size int64) *looptest.Device {
	t.Helper()
	for range 50 {
		d := looptest.New(t, looptest.Options{Size: size})
		pause := time.Duration(1+rand.IntN(12)) * time.Millisecond
		_ = New(Options{Exec: killedAfter(pause)}).Format(soon(t), owned(d), Quick, typed(fsType), nil)
		if c, err := New(Options{}).Probe(soon(t), owned(d)); err == nil && c.Kind == Unfinished && c.Type != fsType {
			return d
		}
		d.Close()
		_ = os.Remove(d.Backing)
	}
	t.Fatal("mkfs always ended before it was killed")
	return nil
}

// marked tells whether a page of the device is a mark.
func marked(t *testing.T, d *looptest.Device) bool {
	t.Helper()
	file, err := os.Open(d.Backing)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, piece)
	for _, at := range markPlaces(info.Size()) {
		if _, err := file.ReadAt(page, at); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(page), markMagic) {
			return true
		}
	}
	return false
}

func TestAFinishedFormatLeavesNoMark(t *testing.T) {
	for _, fsType := range append(kinds(), ext2) {
		d := blankDisk(t)
		if err := New(Options{}).Format(soon(t), owned(d), Quick, typed(fsType), nil); err != nil || marked(t, d) {
			t.Errorf("%s: %v, a mark is left: %t", fsType, err, marked(t, d))
		}
		if c, err := New(Options{}).Probe(soon(t), owned(d)); err != nil || c.Kind != Filesystem {
			t.Errorf("%s: %+v, %v", fsType, c, err)
		}
	}
}

// TestAnMkfsThatIsKilledIsRepeated at each moment of its life.
func TestAnMkfsThatIsKilledIsRepeated(t *testing.T) {
	for _, fsType := range append(kinds(), ext2) {
		t.Run(fsType, func(t *testing.T) {
			for ms := range 16 {
				d := looptest.New(t, looptest.Options{Size: gib})
				_ = New(Options{Exec: killedAfter(time.Duration(3*ms) * time.Millisecond / 2)}).Format(soon(t), owned(d), Quick, typed(fsType), nil)
				proof := []Proof{Quick, Thorough}[ms%2]
				if err := New(Options{}).Format(soon(t), owned(d), proof, typed(fsType), nil); err != nil {
					t.Errorf("killed after %d ms: %v", 3*ms/2, err)
				}
				f := New(Options{})
				if c, err := f.Probe(soon(t), owned(d)); err != nil || c.Kind != Filesystem || c.Type != fsType || marked(t, d) {
					t.Errorf("killed after %d ms: %+v, %v, marked %t", 3*ms/2, c, err, marked(t, d))
				}
				dir := mountDir(t)
				if err := f.Mount(soon(t), d.Path, dir, typed(fsType), nil); err != nil {
					t.Errorf("killed after %d ms: %v", 3*ms/2, err)
				}
				if err := f.Unmount(soon(t), dir); err != nil {
					t.Error(err)
				}
				d.Close()
				_ = os.Remove(d.Backing)
			}
		})
	}
}

// TestAMarkDoesNotCostAnybodysData: whatever lies beside what mkfs writes is kept.
func TestAMarkDoesNotCostAnybodysData(t *testing.T) {
	for _, fsType := range kinds() {
		for _, at := range []int64{300*mib + 12288, gib - 4096, 1500 * mib, 2*gib - 8192} {
			d := halfWay(t, fsType, 2*gib)
			d.Write(t, []byte("precious"), at)
			before := d.Hash(t)
			var not *NotBlankError
			if err := New(Options{}).Format(soon(t), owned(d), Quick, typed(fsType), nil); !errors.As(err, &not) || not.Content.Kind != Foreign {
				t.Errorf("%s, data at %d: %v", fsType, at, err)
			}
			if d.Hash(t) != before {
				t.Errorf("%s, data at %d: it was written to", fsType, at)
			}
			d.Close()
			_ = os.Remove(d.Backing)
		}
	}
}

func TestAMarkIsBelievedOnlyFromItsOwnerForTheSameFormat(t *testing.T) {
	d := halfWay(t, ext4, 2*gib)
	before := d.Hash(t)
	for name, try := range map[string]struct {
		on      Device
		fsType  string
		options []string
	}{
		"a clone":        {Device{Path: d.Path, Owner: "another volume"}, ext4, nil},
		"nobody's":       {Device{Path: d.Path}, ext4, nil},
		"another type":   {owned(d), xfs, nil},
		"other options":  {owned(d), ext4, []string{"-b", "1024"}},
		"another of ext": {owned(d), ext3, nil},
	} {
		if err := New(Options{}).Format(soon(t), try.on, Quick, typed(try.fsType), parsed(try.fsType, try.options)); !errors.Is(err, ErrNotBlank) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d.Hash(t) != before {
		t.Error("it was written to")
	}
}

func TestAForeignSignatureBesideAMarkIsKept(t *testing.T) {
	d := halfWay(t, ext4, 2*gib)
	d.Write(t, luks1(), 0)
	before := d.Hash(t)
	if err := New(Options{}).Format(soon(t), owned(d), Quick, typed(ext4), nil); !errors.Is(err, ErrNotBlank) || d.Hash(t) != before {
		t.Errorf("%v", err)
	}
}

// putMark writes a mark as a Format would.
func putMark(t *testing.T, d *looptest.Device, fsType string, size int64) {
	t.Helper()
	w := blankWrite{on: owned(d), name: fsType, what: "mkfs." + fsType}
	if err := newMark(w, size).write(d.Path); err != nil {
		t.Fatal(err)
	}
}

// TestAFilesystemWithItsMarkIsFinished: whoever has used it meanwhile loses nothing. One of
// ext tells that it was mounted, and then is what it is, damaged or not.
func TestAFilesystemWithItsMarkIsFinished(t *testing.T) {
	f := New(Options{})
	for _, used := range []bool{false, true} {
		for _, fsType := range kinds() {
			d := formattedDisk(t, f, fsType)
			dir := mountDir(t)
			if used {
				whileMounted(t, f, d, dir, fsType, func(file string) error { return os.WriteFile(file, []byte("precious"), 0o600) })
			}
			putMark(t, d, fsType, 512*mib)
			want := Unfinished
			if used && typed(fsType).family == ext4 {
				want = Filesystem
			}
			if c, err := f.Probe(soon(t), owned(d)); err != nil || c.Kind != want || c.Type != fsType {
				t.Errorf("%s, used %t: %+v, %v", fsType, used, c, err)
			}
			err := f.Format(soon(t), owned(d), Thorough, typed(fsType), nil)
			if finished := want == Unfinished; finished != (err == nil) || finished == marked(t, d) || !finished && !errors.Is(err, ErrNotBlank) {
				t.Errorf("%s, used %t: %v, marked %t", fsType, used, err, marked(t, d))
			}
			whileMounted(t, f, d, dir, fsType, func(file string) error {
				if data, err := os.ReadFile(file); used && string(data) != "precious" {
					t.Errorf("%s: %q, %v", fsType, data, err)
				}
				return nil
			})
		}
	}
}

// whileMounted does something to a file of a filesystem.
func whileMounted(t *testing.T, f *FS, d *looptest.Device, dir, fsType string, do func(file string) error) {
	t.Helper()
	err := f.Mount(soon(t), d.Path, dir, typed(fsType), nil)
	if err == nil {
		err = errors.Join(do(filepath.Join(dir, "file")), f.Unmount(soon(t), dir))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheMarkOfLUKSIsGoneForGood: a loss of power must not bring it back beside what was
// written behind the new header, which nothing would tell from somebody's data.
func TestTheMarkOfLUKSIsGoneForGood(t *testing.T) {
	f := New(Options{})
	d := blankDisk(t)
	flushes := func() string {
		stat, err := os.ReadFile("/sys/dev/block/" + blockdev.FormatNumber(d.Number) + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(stat))[15]
	}
	written := ""
	err := f.WriteBlank(soon(t), owned(d), Quick, luksName, mib, func() error {
		written = flushes()
		return nil
	})
	if err != nil || marked(t, d) || flushes() == written {
		t.Errorf("%v, marked %t, %s flushes before, %s after", err, marked(t, d), written, flushes())
	}
}

// TestAMarkIsTakenAwayAlone: what lies behind it in its page may be a file's by now.
func TestAMarkIsTakenAwayAlone(t *testing.T) {
	f := New(Options{})
	d := formattedDisk(t, f, xfs)
	putMark(t, d, xfs, 512*mib)
	d.Write(t, []byte("precious"), markHead+512)
	if err := f.Format(soon(t), owned(d), Quick, typed(xfs), nil); err != nil || marked(t, d) {
		t.Errorf("%v, marked %t", err, marked(t, d))
	}
	left := make([]byte, 8)
	file, err := os.Open(d.Backing)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.ReadAt(left, markHead+512); err != nil || string(left) != "precious" {
		t.Errorf("%q is left, %v", left, err)
	}
}

// TestAnotherFilesystemBesideAMarkIsWhatItIs: somebody has made it by hand meanwhile.
func TestAnotherFilesystemBesideAMarkIsWhatItIs(t *testing.T) {
	f := New(Options{})
	d := formattedDisk(t, f, xfs)
	putMark(t, d, ext4, 512*mib)
	if c, err := f.Probe(soon(t), owned(d)); err != nil || c.Kind != Filesystem || c.Type != xfs {
		t.Errorf("%+v, %v", c, err)
	}
	if err := f.Format(soon(t), owned(d), Quick, typed(ext4), nil); !errors.Is(err, ErrNotBlank) {
		t.Errorf("%v", err)
	}
}

// TestADamagedExtWithItsMarkIsMadeAgainUnlessItWasMounted: the kernel had not written
// all of it when the node lost its power.
func TestADamagedExtWithItsMarkIsMadeAgainUnlessItWasMounted(t *testing.T) {
	f := New(Options{})
	for _, used := range []bool{false, true} {
		d := formattedDisk(t, f, ext4)
		if used {
			run(t, "debugfs", "-w", "-R", "set_super_value mnt_count 1", d.Path)
		}
		run(t, "debugfs", "-w", "-R", "clri <2>", d.Path) // the root directory
		putMark(t, d, ext4, 512*mib)
		err := f.Format(soon(t), owned(d), Quick, typed(ext4), nil)
		if used != errors.Is(err, ErrNotBlank) || !used && err != nil {
			t.Errorf("used %t: %v", used, err)
		}
	}
}

// TestADeviceThatGrewMeanwhileIsFormattedAgain: the mark at its old end is lost.
func TestADeviceThatGrewMeanwhileIsFormattedAgain(t *testing.T) {
	f := New(Options{})
	d := halfWay(t, xfs, gib)
	d.Grow(t, 3*gib)
	if err := f.Format(soon(t), owned(d), Quick, typed(xfs), nil); err != nil {
		t.Error(err)
	}
	file, err := os.Open(d.Backing)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	page := make([]byte, piece)
	for _, size := range []int64{gib, 3 * gib} {
		for _, at := range markPlaces(size) {
			if _, err := file.ReadAt(page, at); err != nil || strings.HasPrefix(string(page), markMagic) {
				t.Errorf("%v, or a mark is left at byte %d", err, at)
			}
		}
	}
}

// TestAMarkAloneIsNoHarm: the process died right after it; nor is one that was torn.
func TestAMarkAloneIsNoHarm(t *testing.T) {
	f := New(Options{})
	for _, proof := range []Proof{Quick, Thorough} {
		d := blankDisk(t)
		putMark(t, d, ext4, 512*mib)
		if err := f.Format(soon(t), owned(d), proof, typed(ext4), nil); err != nil || marked(t, d) {
			t.Errorf("%v, marked %t", err, marked(t, d))
		}
	}
	page, err := (mark{Owner: owner, Name: ext4, Size: 1}).page()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 512 {
		if page[i] == 0 {
			break
		}
		torn := append([]byte(nil), page...)
		torn[i] ^= 1
		if _, ok := parseMark(torn); ok && i < len(markMagic) {
			t.Errorf("a mark whose byte %d is another one is believed", i)
		}
	}
	if _, err := (mark{Owner: strings.Repeat("x", 600)}).page(); err == nil {
		t.Error("a mark longer than a sector")
	}
}

// TestAnMkfsThatFailsIsRepeated: it may have written.
func TestAnMkfsThatFailsIsRepeated(t *testing.T) {
	d := blankDisk(t)
	failed := false
	programs := hooked{Interface: utilexec.New(), hook: func(words []string, run func() ([]byte, error)) ([]byte, error) {
		if filepath.Base(words[0]) == "mkfs.btrfs" && !failed {
			failed = true
			d.Write(t, []byte(strings.Repeat("half a tree", 300)), 64<<10)
			return []byte("no space"), fmt.Errorf("broken")
		}
		return run()
	}}
	f := New(Options{Exec: programs})
	if err := f.Format(soon(t), owned(d), Quick, typed(btrfs), nil); err == nil {
		t.Fatal("it succeeded")
	}
	if c, err := f.Probe(soon(t), owned(d)); err != nil || c.Kind != Unfinished {
		t.Errorf("%+v, %v", c, err)
	}
	if err := f.Format(soon(t), owned(d), Quick, typed(btrfs), nil); err != nil {
		t.Error(err)
	}
}

// TestWhatLUKSLeftIsMadeAgain, and a payload with data is kept.
func TestWhatLUKSLeftIsMadeAgain(t *testing.T) {
	f := New(Options{})
	write := func(d *looptest.Device, err error) error {
		return f.WriteBlank(soon(t), owned(d), Quick, luksName, 32*mib, func() error {
			if err != nil {
				d.Write(t, []byte(strings.Repeat("noise", 100000)), 32<<10)
				return err
			}
			d.Write(t, luks1(), 0)
			return nil
		})
	}
	d := blankDisk(t)
	if err := write(d, errors.New("killed")); err == nil {
		t.Fatal("it succeeded")
	}
	if err := write(d, nil); err != nil {
		t.Error(err)
	}
	d = blankDisk(t)
	_ = write(d, errors.New("killed"))
	d.Write(t, []byte("precious"), 100*mib)
	if err := write(d, nil); !errors.Is(err, ErrNotBlank) {
		t.Errorf("%v", err)
	}
	d = blankDisk(t)
	for _, want := range []error{os.ErrProcessDone, ErrUnsupported} { // of what nobody knows where it writes
		err := f.WriteBlank(soon(t), owned(d), Quick, "something", mib, func() error {
			d.Write(t, []byte("noise"), 0)
			return os.ErrProcessDone
		})
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

func FuzzMark(f *testing.F) {
	page, err := (mark{Owner: owner, Name: ext4, Size: 1}).page()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(page)
	f.Add([]byte(markMagic))
	f.Fuzz(func(t *testing.T, page []byte) {
		if m, ok := parseMark(page); ok {
			if _, err := json.Marshal(m); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestACancelledRestartChangesNothing(t *testing.T) {
	d := halfWay(t, ext4, 2*gib)
	before := d.Hash(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(Options{}).Format(ctx, owned(d), Quick, typed(ext4), nil); !errors.Is(err, context.Canceled) || d.Hash(t) != before {
		t.Errorf("%v", err)
	}
}
