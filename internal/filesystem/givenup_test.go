package filesystem

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAFilesystemThatTheKernelGaveUpIsTold, in each way that it gives one up, and
// apart from one that was mounted for reading.
func TestAFilesystemThatTheKernelGaveUpIsTold(t *testing.T) {
	f := New(Options{})
	for name, c := range map[string]struct {
		fsType string
		spoil  func(t *testing.T, name, dir string)
	}{
		"ext4, aborted": {ext4, func(t *testing.T, _, dir string) {
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "abort"); err != nil {
				t.Fatal(err)
			}
		}},
		"ext4, after an error": {ext4, func(t *testing.T, name, dir string) {
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "errors=remount-ro"); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile("/sys/fs/ext4/"+name+"/trigger_fs_error", []byte("1"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		"ext4, shut down": {ext4, func(t *testing.T, _, dir string) { run(t, "xfs_io", "-x", "-c", "shutdown", dir) }},
		"xfs, shut down":  {xfs, func(t *testing.T, _, dir string) { run(t, "xfs_io", "-x", "-c", "shutdown", dir) }},
		"xfs, shut down with its log": {xfs, func(t *testing.T, _, dir string) {
			run(t, "xfs_io", "-x", "-c", "shutdown -f", dir)
		}},
		"read-only by hand": {ext4, func(t *testing.T, _, dir string) {
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d, target := mounted(t, f, c.fsType)
			bound := mountDir(t)
			if err := f.Bind(soon(t), target, bound, true, nil); err != nil {
				t.Fatal(err)
			}
			if m, _, err := f.Lookup(bound); err != nil || !m.ReadOnly || m.FilesystemReadOnly || m.GivenUp || m.Writable() {
				t.Errorf("a bind for reading: %+v, %v", m, err)
			}
			if m, _, err := f.Lookup(target); err != nil || m.ReadOnly || m.GivenUp || !m.Writable() {
				t.Errorf("before: %+v, %v", m, err)
			}
			c.spoil(t, d.Name, target)
			m, _, err := f.Lookup(target)
			if byHand := name == "read-only by hand"; err != nil || m.Writable() || m.GivenUp == byHand {
				t.Errorf("after: %+v, %v", m, err)
			}
			if err := os.WriteFile(filepath.Join(target, "file"), nil, 0o600); err == nil {
				t.Error("it can be written to")
			}
			if !m.GivenUp {
				return
			}
			if err := f.Bind(soon(t), target, mountDir(t), false, nil); !errors.Is(err, ErrGivenUp) {
				t.Errorf("a bind for writing: %v", err)
			}
			if err := f.Mount(soon(t), d.Path, target, typed(c.fsType), nil); !errors.Is(err, ErrGivenUp) {
				t.Errorf("mounted again: %v", err)
			}
			d.Grow(t, gib)
			if _, err := f.Grow(soon(t), d.Path, target); err == nil {
				t.Error("it grew")
			}
			// Taken away it is repaired, and as good as new.
			if err := errors.Join(f.Unmount(soon(t), bound), f.Unmount(soon(t), target), f.Check(soon(t), d.Path, typed(c.fsType))); err != nil {
				t.Fatal(err)
			}
			if err := f.Mount(soon(t), d.Path, target, typed(c.fsType), nil); err != nil {
				t.Fatal(err)
			}
			if m, _, err := f.Lookup(target); err != nil || !m.Writable() {
				t.Errorf("mounted anew: %+v, %v", m, err)
			}
		})
	}
}
