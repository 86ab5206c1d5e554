package blockdev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

// server is a device directory with a real loop device in it.
type server struct {
	dev    string
	device *looptest.Device
}

// attach makes a loop device of a file with the given name and shows it in dev
// as vdb, with the link that the volume's disk has.
func attach(t *testing.T, dev, file, volumeID string) *server {
	t.Helper()
	d := looptest.New(t, looptest.Options{Size: gib, File: filepath.Join(t.TempDir(), file)})
	s := &server{dev: dev, device: d}
	if err := unix.Mknod(filepath.Join(dev, "vdb"), unix.S_IFBLK|0o600, int(d.Number)); err != nil {
		t.Fatal(err)
	}
	byID := filepath.Join(dev, "disk", "by-id")
	if err := os.MkdirAll(byID, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../vdb", filepath.Join(byID, "virtio-"+volumeID[:20])); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) finder() *Loop { return &Loop{DevDir: s.dev} }

func TestALoopDeviceIsFoundByItsLinkAndItsFile(t *testing.T) {
	s := attach(t, t.TempDir(), "volume-"+volumeA, volumeA)
	d, err := s.finder().Find(t.Context(), volumeA)
	if err != nil {
		t.Fatal(err)
	}
	if d.Path != filepath.Join(s.dev, "vdb") || d.Name != s.device.Name || d.Number != s.device.Number || d.Size != gib {
		t.Errorf("%+v", d)
	}
	s.device.Grow(t, 2*gib)
	fresh, err := s.finder().Refresh(t.Context(), d)
	if err != nil || fresh.Size != 2*gib || fresh.Path != d.Path {
		t.Errorf("grown: %+v, %v", fresh, err)
	}
	if users, err := Holders(d); err != nil || len(users) != 0 {
		t.Errorf("held by %v, %v", users, err)
	}
}

func TestALoopDeviceOfAnotherFileIsRefused(t *testing.T) {
	for _, file := range []string{"volume-" + volumeB, "disk", "volume-" + volumeA + "x", "xvolume-" + volumeA} {
		s := attach(t, t.TempDir(), file, volumeA)
		_, err := s.finder().Find(t.Context(), volumeA)
		if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestALoopDeviceIsNotFoundUntilAllOfItIsThere(t *testing.T) {
	dev := t.TempDir()
	l := &Loop{DevDir: dev}
	notFound := func(when string) {
		t.Helper()
		if _, err := l.Find(t.Context(), volumeA); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", when, err)
		}
	}
	notFound("nothing there")
	s := attach(t, dev, "volume-"+volumeA, volumeA)
	node := filepath.Join(dev, "vdb")
	if err := os.Rename(node, node+"x"); err != nil {
		t.Fatal(err)
	}
	notFound("a link that leads nowhere")
	if err := os.Rename(node+"x", node); err != nil {
		t.Fatal(err)
	}
	d, err := l.Find(t.Context(), volumeA)
	if err != nil {
		t.Fatal(err)
	}
	s.device.Close()
	notFound("detached")
	if err := d.Verify(); err == nil {
		t.Error("Verify doesn't notice that it has been detached")
	}
}

func TestALinkToSomethingElseIsRefused(t *testing.T) {
	dev := t.TempDir()
	byID := filepath.Join(dev, "disk", "by-id")
	if err := os.MkdirAll(byID, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dev, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(dev, "vdq"), unix.S_IFBLK|0o600, int(unix.Mkdev(252, 0))); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(byID, "virtio-"+volumeA[:20])
	for target, reason := range map[string]string{
		"../../file": "not a block device", "../../vdq": "not a loop device",
		"/dev/loop0": "outside", "/dev/null": "outside", "../by-id": "not a block device",
	} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		_, err := (&Loop{DevDir: dev}).Find(t.Context(), volumeA)
		if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v", target, err)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Base(link), link); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Loop{DevDir: dev}).Find(t.Context(), volumeA); err == nil {
		t.Error("a link to itself was followed")
	}
}

func TestRefreshTellsOnlyASCSIDiskToAskAgain(t *testing.T) {
	tr := newTree(t)
	device := looptest.New(t, looptest.Options{Size: gib})
	tr.disk("sda", FormatNumber(device.Number), map[string]string{
		"device/vpd_pg80": page(0x80, volumeA), "device/rescan": "",
	})
	tr.disk("sdb", "8:16", map[string]string{"device/vpd_pg80": page(0x80, volumeC), "device/rescan": ""})
	d, err := tr.system().Find(t.Context(), volumeA)
	if err != nil {
		t.Fatal(err)
	}
	device.Grow(t, 2*gib)
	d, err = tr.system().Refresh(t.Context(), d)
	if err != nil || d.Size != 2*gib {
		t.Errorf("%+v, %v", d, err)
	}
	for disk, want := range map[string]string{"sda": "1", "sdb": ""} {
		if got, err := os.ReadFile(tr.path("sys/block/" + disk + "/device/rescan")); err != nil || string(got) != want {
			t.Errorf("rescan of %s: %q, %v", disk, got, err)
		}
	}
}

// TestABusThatHangsCostsOneGoroutine however often the disk is refreshed, or looked
// at again since it has no capacity, and by how many calls at once.
func TestABusThatHangsCostsOneGoroutine(t *testing.T) {
	for name, ask := range map[string]func(*System, context.Context, Disk) error{
		"refresh": func(s *System, ctx context.Context, d Disk) error {
			_, err := s.Refresh(ctx, d)
			return err
		},
		"wait for its capacity": func(s *System, ctx context.Context, d Disk) error {
			_, err := s.Wait(ctx, d.VolumeID)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			tr.disk("sda", "8:0", map[string]string{"device/vpd_pg80": page(0x80, volumeA)})
			s := tr.system()
			d, err := s.Find(t.Context(), volumeA)
			if err != nil {
				t.Fatal(err)
			}
			tr.hang("sys/block/sda/device/rescan") // opening it for writing blocks
			if name != "refresh" {
				tr.file("sys/block/sda/size", "0")
			}
			before := runtime.NumGoroutine()
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
				if err := ask(s, ctx, d); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				cancel()
			}
			var calls sync.WaitGroup
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			for range 30 {
				calls.Go(func() {
					if err := ask(s, ctx, d); !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
				})
			}
			calls.Wait()
			wantLeft(t, before, 1)
		})
	}
}

// wantLeft wants no more than that many goroutines more than there were before, once
// what only reads has ended.
func wantLeft(t *testing.T, before, most int) {
	t.Helper()
	left := 0
	for range 1000 {
		if left = runtime.NumGoroutine() - before; left <= most {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left, want %d", left, most)
}

// TestAHostThatHangsCostsOneGoroutine, and keeps no other host from being scanned.
func TestAHostThatHangsCostsOneGoroutine(t *testing.T) {
	tr := newTree(t)
	for _, n := range []string{"1", "2"} {
		tr.file("sys/class/scsi_host/host"+n+"/proc_name", "mptspi\n")
	}
	tr.hang("sys/class/scsi_host/host1/scan")
	tr.file("sys/class/scsi_host/host2/scan", "")
	s := tr.system()
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := s.Wait(ctx, volumeA); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
	}
	wantLeft(t, before, 1)
	if got, err := os.ReadFile(tr.path("sys/class/scsi_host/host2/scan")); err != nil || string(got) != "- - -" {
		t.Errorf("the other host: %q, %v", got, err)
	}
}

func TestAPinnedDiskIsTheOneThatWasFound(t *testing.T) {
	dev := t.TempDir()
	attach(t, dev, "volume-"+volumeA, volumeA)
	d, err := (&Loop{DevDir: dev}).Find(t.Context(), volumeA)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := d.Pin()
	if err != nil {
		t.Fatal(err)
	}
	if held, err := Claimed(d.Path); held || err != nil {
		t.Errorf("a pin keeps others from claiming the disk: %t, %v", held, err)
	}
	if err := pinned.Close(); err != nil {
		t.Error(err)
	}
	other := d
	other.Number++
	if _, err := other.Pin(); !errors.Is(err, ErrUnsafe) {
		t.Errorf("another number: %v", err)
	}
	replaced := d
	replaced.sequence++
	if _, err := replaced.Pin(); !errors.Is(err, ErrUnsafe) {
		t.Errorf("another disk of the same number: %v", err)
	}
	if err := os.Remove(d.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Pin(); err == nil {
		t.Error("a disk without a node was pinned")
	}
}
