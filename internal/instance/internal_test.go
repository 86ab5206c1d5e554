package instance

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

func TestAMountedDriveIsReadAndLeftAsItWas(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a filesystem: run it as root")
	}
	// The kernel's vfat isn't everywhere; what is told apart here, mounting,
	// reading and leaving nothing behind, is the same for ext4.
	device, latest := ext4Drive(t)
	doc := filepath.Join(latest, "meta_data.json")
	rewrite := func(content string) {
		mnt := t.TempDir()
		run(t, "mount", device, mnt)
		defer run(t, "umount", mnt)
		if err := os.MkdirAll(filepath.Join(mnt, latest), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(mnt, doc), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	t.Setenv("TMPDIR", t.TempDir())
	if _, err := readMounted(device, "ext4"); err == nil {
		t.Error("a drive without the file was read")
	}
	rewrite(`{"uuid":"x"}`)
	data, err := readMounted(device, "ext4")
	if err != nil || string(data) != `{"uuid":"x"}` {
		t.Errorf("got %q, %v", data, err)
	}
	rewrite(strings.Repeat("x", maxMetadata+1))
	if _, err := readMounted(device, "ext4"); err == nil {
		t.Error("a file without end was read")
	}
	if _, err := readMounted(device, "xfs"); err == nil {
		t.Error("a filesystem of another type was mounted")
	}

	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || bytes.Contains(mounts, []byte(device+" ")) {
		t.Errorf("%s is still mounted (%v)", device, err)
	}
}

// TestADriveThatHangsCostsOneGoroutine however often the server asks who it is.
func TestADriveThatHangsCostsOneGoroutine(t *testing.T) {
	release := make(chan struct{})
	s := New(Options{DevDir: t.TempDir(), Order: []Source{ConfigDrive}, Disks: func(context.Context) ([]string, error) {
		<-release
		return nil, nil
	}})
	before := runtime.NumGoroutine()
	var calls sync.WaitGroup
	for range 30 {
		calls.Go(func() {
			for range 2 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				if _, err := s.Identify(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	calls.Wait()
	if left := runtime.NumGoroutine() - before; left > 2 { // the look at all drives, and one that is ending
		t.Errorf("%d goroutines are left", left)
	}
	close(release)
	if _, err := s.Identify(t.Context()); err == nil || !strings.Contains(err.Error(), "no config drive") {
		t.Errorf("got %v", err)
	}
}

// TestOnlyDisksThatMayBeADriveAreRead, and of these only those that have the label.
func TestOnlyDisksThatMayBeADriveAreRead(t *testing.T) {
	dir := t.TempDir()
	drive, unlabelled, missing := filepath.Join(dir, "sr0"), filepath.Join(dir, "vdb"), filepath.Join(dir, "vdc")
	write(t, drive, string(unpacked(t)))
	write(t, unlabelled, strings.Replace(string(unpacked(t)), "config-2 ", "config-3 ", 1))
	for _, tt := range []struct {
		disks []string
		err   error
		want  string
	}{
		{[]string{missing, unlabelled, drive}, nil, "83679162-1378-4288-a2d4-70e13ec132aa"},
		{[]string{unlabelled}, nil, ""},
		{nil, nil, ""},
		{nil, errors.New("no sysfs"), ""},
	} {
		s := New(Options{DevDir: dir, Order: []Source{ConfigDrive}, Disks: func(context.Context) ([]string, error) { return tt.disks, tt.err }})
		if id, err := s.Identify(t.Context()); (err == nil) != (tt.want != "") || id.ServerID != tt.want {
			t.Errorf("%q: %+v, %v", tt.disks, id, err)
		} else if tt.err != nil && !strings.Contains(err.Error(), tt.err.Error()) {
			t.Errorf("%v doesn't say %v", err, tt.err)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ext4Drive returns a loop device with an empty ext4 on it.
func ext4Drive(t *testing.T) (device, latest string) {
	t.Helper()
	d := looptest.New(t, looptest.Options{Size: 8 << 20})
	run(t, "mkfs.ext4", "-q", d.Path)
	return d.Path, filepath.Dir(metadataPath)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func FuzzParseMetadata(f *testing.F) {
	for _, seed := range []string{
		`{"uuid":"83679162-1378-4288-a2d4-70e13ec132aa","name":"n","availability_zone":"nova"}`,
		`{"uuid":"83679162-1378-4288-A2D4-70E13EC132AA","availability_zone":null}`,
		`{"uuid":"{83679162-1378-4288-a2d4-70e13ec132aa}"}`,
		`{"uuid":17}`, `{"uuid":"x"`, `[]`, `null`, ``, `{"availability_zone":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := parseMetadata(data)
		if err != nil {
			if id != (Identity{}) {
				t.Errorf("an error together with %+v", id)
			}
			return
		}
		if parsed, err := uuid.Parse(id.ServerID); err != nil || parsed.String() != id.ServerID {
			t.Errorf("server id %q is no UUID in its plain form", id.ServerID)
		}
	})
}

// unpacked returns a config drive as Nova makes it.
func unpacked(t testing.TB) []byte {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join("testdata", "config-2.iso.gz"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	image, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// FuzzReadISO changes a real image in a few places, since no fuzzer finds its
// way through the zeroes of an image by itself.
func FuzzReadISO(f *testing.F) {
	image := unpacked(f)
	f.Add(uint32(0), []byte{}, uint32(0), []byte{})
	f.Add(uint32(firstVolume*sectorSize+158), []byte{0xff, 0xff, 0xff, 0xff}, uint32(0), []byte{})
	f.Add(uint32(firstVolume*sectorSize+166), []byte{0xff, 0xff, 0xff, 0xff}, uint32((firstVolume+1)*sectorSize), []byte{255})
	f.Add(uint32(firstVolume*sectorSize+128), []byte{0, 0}, uint32((firstVolume+1)*sectorSize+88), []byte("%/Z"))
	f.Add(uint32(0), []byte{}, uint32(32*sectorSize), []byte{33, 255})
	f.Fuzz(func(t *testing.T, at1 uint32, with1 []byte, at2 uint32, with2 []byte) {
		changed := bytes.Clone(image)
		copy(changed[int(at1)%len(changed):], with1)
		copy(changed[int(at2)%len(changed):], with2)
		data, err := readISO(bytes.NewReader(changed), metadataPath)
		if err != nil && data != nil {
			t.Errorf("%d bytes together with %v", len(data), err)
		}
		if len(data) > maxMetadata {
			t.Errorf("%d bytes, more than asked for", len(data))
		}
	})
}
