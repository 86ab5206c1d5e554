package filesystem

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

func TestSizeIsTheFilesystemsOwn(t *testing.T) {
	f := New(Options{})
	for _, fsType := range append(kinds(), ext2) {
		t.Run(fsType, func(t *testing.T) {
			d := formattedDisk(t, f, fsType)
			d.Grow(t, gib)
			if size, err := f.Size(soon(t), d.Path, ""); err != nil || size != 512*mib {
				t.Errorf("unmounted: %d, %v", size, err)
			}
			target := mountDir(t)
			if err := f.Mount(soon(t), d.Path, target, typed(fsType), nil); err != nil {
				t.Fatal(err)
			}
			if size, err := f.Size(soon(t), d.Path, target); err != nil || size != 512*mib {
				t.Errorf("mounted: %d, %v", size, err)
			}
		})
	}
}

func TestSizeOfWhatIsNotMountedThereIsAnError(t *testing.T) {
	f := New(Options{})
	d, target := mounted(t, f, ext4)
	other, elsewhere := mounted(t, f, ext4)
	inside := filepath.Join(target, "inside")
	if err := os.Mkdir(inside, 0o750); err != nil {
		t.Fatal(err)
	}
	for path, mountpoint := range map[string]string{d.Path: elsewhere, other.Path: inside} {
		if _, err := f.Size(soon(t), path, mountpoint); !errors.Is(err, ErrNotMounted) {
			t.Errorf("Size: %v", err)
		}
		if _, err := f.Grow(soon(t), path, mountpoint); !errors.Is(err, ErrNotMounted) {
			t.Errorf("Grow: %v", err)
		}
	}
	if _, err := f.Size(soon(t), blankDisk(t).Path, ""); !errors.Is(err, ErrUnsupported) {
		t.Errorf("blank: %v", err)
	}
}

// withFile mounts a device, writes a file and returns its content.
func withFile(t *testing.T, target string) []byte {
	t.Helper()
	data := make([]byte, 5*mib)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(target, "file"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return data
}

func checkFile(t *testing.T, target string, data []byte) {
	t.Helper()
	read, err := os.ReadFile(filepath.Join(target, "file"))
	if err != nil || !bytes.Equal(read, data) {
		t.Errorf("the file has changed, or %v", err)
	}
}

func TestAMountedFilesystemGrowsWithItsDevice(t *testing.T) {
	f := New(Options{})
	for _, fsType := range []string{ext4, ext3, xfs, btrfs} {
		t.Run(fsType, func(t *testing.T) {
			if !typed(fsType).GrowsOnline() {
				t.Log("not with the capabilities of this process")
				growsOnlyUnmounted(t, f, fsType)
				return
			}
			d, target := mounted(t, f, fsType)
			data := withFile(t, target)
			for _, size := range []int64{512 * mib, gib, 3 * gib, 3*gib + 4096} {
				d.Grow(t, size)
				got, err := f.Grow(soon(t), d.Path, target)
				if err != nil || got > size || size-got > 2*mib {
					t.Errorf("on %d bytes: %d, %v", size, got, err)
				}
			}
			checkFile(t, target, data)
			var st unix.Statfs_t
			if err := unix.Statfs(target, &st); err != nil || int64(st.Blocks)*st.Bsize < 2*gib {
				t.Errorf("statfs: %+v, %v", st, err)
			}
		})
	}
}

// growsOnlyUnmounted checks that growth is refused, says so, and changes nothing.
func growsOnlyUnmounted(t *testing.T, f *FS, fsType string) {
	t.Helper()
	d, target := mounted(t, f, fsType)
	data := withFile(t, target)
	if size, err := f.Grow(soon(t), d.Path, target); err != nil || size != 512*mib {
		t.Errorf("nothing to do: %d, %v", size, err)
	}
	d.Grow(t, gib)
	if _, err := f.Grow(soon(t), d.Path, target); !errors.Is(err, ErrOnlineGrowth) {
		t.Errorf("%v", err)
	}
	if size, err := f.Size(soon(t), d.Path, target); err != nil || size != 512*mib {
		t.Errorf("after it was refused: %d, %v", size, err)
	}
	checkFile(t, target, data)
}

func TestAnUnmountedExtGrowsWithItsDevice(t *testing.T) {
	f := New(Options{})
	for _, fsType := range []string{ext2, ext3, ext4} {
		t.Run(fsType, func(t *testing.T) {
			d, target := mounted(t, f, fsType)
			data := withFile(t, target)
			d.Grow(t, gib)
			if _, err := f.Grow(soon(t), d.Path, ""); !errors.Is(err, ErrBusy) {
				t.Errorf("still mounted: %v", err)
			}
			if err := f.Unmount(soon(t), target); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if size, err := f.Grow(soon(t), d.Path, ""); err != nil || size != gib {
					t.Errorf("%d, %v", size, err)
				}
			}
			if err := f.Mount(soon(t), d.Path, target, typed(fsType), nil); err != nil {
				t.Fatal(err)
			}
			checkFile(t, target, data)
		})
	}
}

func TestExtGrowsToWhateverSizeItsDeviceHas(t *testing.T) {
	f := New(Options{})
	d := formattedDisk(t, f, ext4)
	// A last group too small for its own tables is left out; that is not a failure.
	for _, size := range []int64{512*mib + 512, 512*mib + 4096, 513 * mib, 640*mib + 8192, 700 * mib} {
		d.Grow(t, size)
		before := d.Hash(t)
		got, err := f.Grow(soon(t), d.Path, "")
		if err != nil || got > size || size-got > 4*mib {
			t.Errorf("on %d bytes: %d, %v", size, got, err)
		}
		if got == 512*mib && d.Hash(t) != before {
			t.Errorf("on %d bytes: changed for nothing", size)
		}
	}
}

func TestXFSAndBtrfsAskToBeMountedBeforeTheyGrow(t *testing.T) {
	f := New(Options{})
	for _, fsType := range []string{xfs, btrfs} {
		d := formattedDisk(t, f, fsType)
		if size, err := f.Grow(soon(t), d.Path, ""); err != nil || size != 512*mib {
			t.Errorf("%s, nothing to do: %d, %v", fsType, size, err)
		}
		d.Grow(t, gib)
		before := d.Hash(t)
		if _, err := f.Grow(soon(t), d.Path, ""); !errors.Is(err, ErrNeedsMount) {
			t.Errorf("%s: %v", fsType, err)
		}
		if d.Hash(t) != before {
			t.Errorf("%s: the content has changed", fsType)
		}
	}
}

func TestWhatIsReadOnlyDoesNotGrow(t *testing.T) {
	f := New(Options{})
	d, target := mounted(t, f, xfs, "ro")
	d.Grow(t, gib)
	if _, err := f.Grow(soon(t), d.Path, target); !errors.Is(err, ErrReadOnly) {
		t.Errorf("mounted: %v", err)
	}
	origin := formattedDisk(t, f, ext4)
	copied := filepath.Join(t.TempDir(), "copy")
	run(t, "cp", "--sparse=always", origin.Backing, copied)
	readOnly := looptest.New(t, looptest.Options{File: copied, Size: gib, ReadOnly: true})
	if _, err := f.Grow(soon(t), readOnly.Path, ""); !errors.Is(err, ErrReadOnly) {
		t.Errorf("device: %v", err)
	}
}

func TestADamagedFilesystemDoesNotGrow(t *testing.T) {
	f := New(Options{})
	d := formattedDisk(t, f, ext4)
	run(t, "debugfs", "-w", "-R", "clri <2>", d.Path)
	d.Grow(t, gib)
	if _, err := f.Grow(soon(t), d.Path, ""); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestConcurrentGrowthRunsOnceAndToItsEnd(t *testing.T) {
	g := newGate("btrfs")
	f := New(Options{Exec: g.exec()})
	d, target := mounted(t, f, btrfs)
	d.Grow(t, gib)
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() {
		_, err := f.Grow(ctx, d.Path, target)
		cancelled <- err
	}()
	<-g.arrived
	cancel()
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if size, err := f.Grow(soon(t), d.Path, target); err != nil || size != gib {
				t.Errorf("%d, %v", size, err)
			}
		})
	}
	close(g.open)
	wg.Wait()
	if g.started != 1 {
		t.Errorf("btrfs ran %d times", g.started)
	}
}

func TestCapabilities(t *testing.T) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	effective := regexp.MustCompile(`(?m)^CapEff:\s*([0-9a-f]+)$`).FindStringSubmatch(string(status))
	if effective == nil {
		t.Fatalf("%s", status)
	}
	set, err := strconv.ParseUint(effective[1], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	for capability := range 64 {
		if got := hasCapability(capability); got != (set>>capability&1 == 1) {
			t.Errorf("capability %d: %t, of %x", capability, got, set)
		}
	}
	if !typed(xfs).GrowsOnline() || !typed(btrfs).GrowsOnline() || typed(ext4).GrowsOnline() != typed(ext3).GrowsOnline() {
		t.Error("xfs and btrfs grow online everywhere, ext by capability")
	}
}
