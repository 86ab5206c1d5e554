package filesystem

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	utilexec "k8s.io/utils/exec"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

// forkStorm starts programs, one after the other and several at once, until the
// test ends.
func forkStorm(t *testing.T) {
	t.Helper()
	stop := make(chan struct{})
	var storm sync.WaitGroup
	for range 4 {
		storm.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = exec.Command("true").Run()
				}
			}
		})
	}
	t.Cleanup(func() {
		close(stop)
		storm.Wait()
	})
}

func TestAClaimThatIsGivenBackIsGoneWhateverIsForkedMeanwhile(t *testing.T) {
	forkStorm(t)
	d := blankDisk(t)
	pinned, err := openDevice(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer pinned.close()
	for i := range 300 {
		if err := pinned.free(d.Path); err != nil {
			t.Fatalf("claim %d: %v", i, err)
		}
		if held, err := blockdev.Claimed(d.Path); held || err != nil {
			t.Fatalf("after claim %d: held %t, %v", i, held, err)
		}
	}
}

func TestManyFormatsAtOnceDoNotHinderEachOther(t *testing.T) {
	forkStorm(t)
	f := New(Options{})
	f.formats = make(semaphore, 4)
	var all sync.WaitGroup
	for i := range 24 {
		d := blankDisk(t)
		fsType := kinds()[i%len(kinds())]
		all.Go(func() {
			if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), nil); err != nil {
				t.Errorf("%s: %v", fsType, err)
			}
		})
	}
	all.Wait()
}

// hold claims a device, as a mount or a tool does.
func hold(t *testing.T, d *looptest.Device) *os.File {
	t.Helper()
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func releaseSoon(holder *os.File) {
	time.AfterFunc(50*time.Millisecond, func() { _ = holder.Close() })
}

func TestADeviceThatIsHeldForAMomentIsFormattedAfterwards(t *testing.T) {
	f := New(Options{})
	for _, fsType := range kinds() {
		d := blankDisk(t)
		releaseSoon(hold(t, d))
		if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), nil); err != nil {
			t.Errorf("%s: %v", fsType, err)
		}
	}
}

// busyOnce has the first mkfs find its device in use, by somebody who writes
// data to it before it is given back.
func busyOnce(t *testing.T, d *looptest.Device, data []byte) (programs utilexec.Interface, started *int) {
	started = new(int)
	return hooked{Interface: utilexec.New(), hook: func(words []string, run func() ([]byte, error)) ([]byte, error) {
		if !strings.HasPrefix(filepath.Base(words[0]), "mkfs.") || len(words) == 2 {
			return run()
		}
		if *started++; *started > 1 {
			return run()
		}
		holder := hold(t, d)
		out, err := run()
		if _, werr := holder.WriteAt(data, 128<<20); werr != nil {
			t.Error(werr)
		}
		if cerr := holder.Close(); cerr != nil {
			t.Error(cerr)
		}
		return out, err
	}}, started
}

func TestAnMkfsThatFindsTheDeviceInUseIsTriedAgain(t *testing.T) {
	for _, fsType := range kinds() {
		d := blankDisk(t)
		programs, started := busyOnce(t, d, nil)
		if err := New(Options{Exec: programs}).Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), nil); err != nil || *started != 2 {
			t.Errorf("%s: %v, after %d mkfs", fsType, err, *started)
		}
	}
}

func TestWhatWasWrittenWhileTheDeviceWasInUseIsKept(t *testing.T) {
	for _, fsType := range kinds() {
		d := blankDisk(t)
		programs, started := busyOnce(t, d, []byte("precious"))
		err := New(Options{Exec: programs}).Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), nil)
		if !errors.Is(err, ErrNotBlank) || *started != 1 {
			t.Errorf("%s: %v, after %d mkfs", fsType, err, *started)
		}
	}
}

func TestACheckWaitsForADeviceThatIsHeldForAMoment(t *testing.T) {
	f := New(Options{})
	d := formattedDisk(t, f, ext4)
	run(t, "debugfs", "-w", "-R", "set_super_value state 2", d.Path)
	releaseSoon(hold(t, d))
	if err := f.Check(soon(t), d.Path, typed(ext4)); err != nil {
		t.Error(err)
	}
	d.Grow(t, gib)
	releaseSoon(hold(t, d))
	if size, err := f.Grow(soon(t), d.Path, ""); err != nil || size != gib {
		t.Errorf("grow: %d, %v", size, err)
	}
	releaseSoon(hold(t, d))
	if err := f.Mount(soon(t), d.Path, mountDir(t), typed(ext4), nil); err != nil {
		t.Errorf("mount: %v", err)
	}
}

func TestAnE2fsckThatFindsTheDeviceInUseFindsNoDamage(t *testing.T) {
	f := New(Options{})
	d := formattedDisk(t, f, ext4)
	holder := hold(t, d)
	err := f.e2fsck(t.Context(), d.Path, "-f", "-p")
	if !errors.Is(err, ErrBusy) || errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
}
