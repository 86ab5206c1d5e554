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
	"golang.org/x/sys/unix"
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

// TestAVolumeThatPosesAsAConfigDriveIsRefused: the label is its owner's choice,
// the serial is not.
func TestAVolumeThatPosesAsAConfigDriveIsRefused(t *testing.T) {
	const serial = "0b0b4d11-6e0e-4c5c-9"
	for _, tt := range []struct {
		name    string
		files   map[string]string // in the disk's directory
		part    bool              // the drive is a partition of that disk
		refused bool
	}{
		{"a CD-ROM", map[string]string{"device/wwid": "t10.ATA     QEMU DVD-ROM   QM00001"}, false, false},
		{"a CD-ROM whose name can't be read", map[string]string{"device/type": "5", "device/wwid/directory": ""}, false, false},
		{"a disk without serial", map[string]string{"device/vendor": "0x1af4"}, false, false},
		{"what the kernel has made", nil, false, true},
		{"a disk with an empty serial", map[string]string{"serial": "", "device/vendor": "0x1af4"}, false, false},
		{"a volume on virtio", map[string]string{"serial": serial, "device/vendor": "0x1af4"}, false, true},
		{"a volume on SCSI", map[string]string{"device/vpd_pg80": "\x00\x80\x00\x24" + serial + "f4b-2d7bd8a7c001"}, false, true},
		{"a volume on NVMe", map[string]string{"device/serial": serial + "\n"}, false, true},
		{"a disk that doesn't tell its serial", map[string]string{"device/vendor": "0x1af4", "serial": "-"}, false, true},
		{"a disk of 64 MiB, as Nova makes its vfat", map[string]string{"device/vendor": "VMware", "size": "131072"}, false, false},
		{"a CD-ROM of any size", map[string]string{"device/type": "5\n", "size": "9000000"}, false, false},
		{"a volume of 10 GiB without serial, as on VMware", map[string]string{"device/vendor": "VMware", "size": "20971520"}, false, true},
		{"a volume of 1 GiB without serial, less a LUKS header", map[string]string{"device/vendor": "VMware", "device/type": "0", "size": "2064384"}, false, true},
		{"a partition of 1 MiB on a volume without serial", map[string]string{"device/vendor": "VMware", "size": "20971520", "part1/size": "2048"}, true, true},
		{"a disk of half a GiB", map[string]string{"device/vendor": "VMware", "size": "1048576"}, false, true},
		{"a disk whose size nothing tells", map[string]string{"device/vendor": "VMware", "size": ""}, false, true},
		{"a partition of a volume", map[string]string{"serial": serial, "device/vendor": "0x1af4"}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sys := t.TempDir()
			drive := filepath.Join(sys, "devices", "disk")
			write(t, filepath.Join(drive, "size"), "1")
			for name, content := range tt.files {
				if content == "-" {
					hang(t, filepath.Join(drive, name))
					continue
				}
				write(t, filepath.Join(drive, name), content)
			}
			if tt.part {
				drive = filepath.Join(drive, "part1")
				write(t, filepath.Join(drive, "partition"), "1")
			}
			f, number := blockNode(t)
			if err := os.MkdirAll(filepath.Join(sys, "dev", "block"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(drive, filepath.Join(sys, "dev", "block", number)); err != nil {
				t.Fatal(err)
			}
			if err := (&drives{sysDir: sys}).check(t.Context(), f); (err != nil) != tt.refused {
				t.Errorf("got %v, want refused: %t", err, tt.refused)
			}
		})
	}
}

// TestADriveThatHangsCostsOneGoroutine however often the server asks who it is.
func TestADriveThatHangsCostsOneGoroutine(t *testing.T) {
	sys := t.TempDir()
	disk := filepath.Join(sys, "block", "vdb")
	write(t, filepath.Join(disk, "device", "vendor"), "0x1af4")
	write(t, filepath.Join(disk, "size"), "2048")
	hang(t, filepath.Join(disk, "serial"))
	s := New(Options{DevDir: t.TempDir(), Order: []Source{ConfigDrive}})
	s.drives.sysDir = sys
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
	if left := runtime.NumGoroutine() - before; left > 3 { // the look at all drives, the question for the serial, and one that is ending
		t.Errorf("%d goroutines are left", left)
	}
	if _, err := s.Identify(t.Context()); err == nil || !strings.Contains(err.Error(), "no disk has that label") {
		t.Errorf("got %v", err)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine()-before > 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left in the end, want 1", runtime.NumGoroutine()-before)
		}
	}
}

// hang makes a file that nobody can read until the test ends.
func hang(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			_ = unix.Close(fd)
		}
	})
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

// blockNode opens a block device, any, without looking into it.
func blockNode(t *testing.T) (f *os.File, number string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node")
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))); err != nil {
		t.Fatalf("mknod, which needs root: %v", err)
	}
	f, err := os.OpenFile(path, unix.O_PATH, 0) // the device itself stays closed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, "7:0"
}

// ext4Drive returns a loop device with an empty ext4 on it.
func ext4Drive(t *testing.T) (device, latest string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "drive")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 8<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", file)
	device = strings.TrimSpace(run(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { run(t, "losetup", "--detach", device) })
	return device, filepath.Dir(metadataPath)
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
