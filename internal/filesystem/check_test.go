package filesystem

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

func TestACleanFilesystemIsNotTouchedByCheck(t *testing.T) {
	f := New(Options{})
	for _, fsType := range kinds() {
		d := formattedDisk(t, f, fsType)
		before := d.Hash(t)
		if err := f.Check(soon(t), d.Path, typed(fsType)); err != nil {
			t.Errorf("%s: %v", fsType, err)
		}
		if d.Hash(t) != before {
			t.Errorf("%s: the content has changed", fsType)
		}
	}
}

// crashed returns a copy of a device as it is when its node loses power with a
// file just written and synced. The device itself is gone, since not every kernel
// mounts a second btrfs with the same UUID.
func crashed(t *testing.T, f *FS, fsType string, readOnly bool) *looptest.Device {
	t.Helper()
	d, target := mounted(t, f, fsType)
	file, err := os.Create(filepath.Join(target, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(file, bytes.NewReader(make([]byte, mib))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	run(t, "cp", "--sparse=always", d.Backing, copied)
	if err := f.Unmount(soon(t), target); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if fsType == btrfs {
		for line := range strings.Lines(run(t, "btrfs", "inspect-internal", "dump-super", copied)) {
			if words := strings.Fields(line); slices.Equal(words, []string{"log_root", "0"}) {
				t.Fatal("there is no log to be replayed")
			}
		}
	}
	return looptest.New(t, looptest.Options{File: copied, ReadOnly: readOnly})
}

func TestAFilesystemAfterACrashIsRecovered(t *testing.T) {
	f := New(Options{})
	for _, fsType := range kinds() {
		t.Run(fsType, func(t *testing.T) {
			d := crashed(t, f, fsType, false)
			if err := f.Check(soon(t), d.Path, typed(fsType)); err != nil {
				t.Fatal(err)
			}
			target := mountDir(t)
			if err := f.Mount(soon(t), d.Path, target, typed(fsType), nil); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(filepath.Join(target, "file"))
			if err != nil || info.Size() != mib {
				t.Errorf("the file: %v, %v", info, err)
			}
		})
	}
}

func TestAReadOnlyDeviceIsMountedWithoutReplay(t *testing.T) {
	f := New(Options{})
	for _, fsType := range kinds() {
		t.Run(fsType, func(t *testing.T) {
			d := crashed(t, f, fsType, true)
			before := d.Hash(t)
			if err := f.Check(soon(t), d.Path, typed(fsType)); err != nil {
				t.Fatal(err)
			}
			target := mountDir(t)
			if err := f.Mount(soon(t), d.Path, target, typed(fsType), nil); !errors.Is(err, ErrReadOnly) {
				t.Errorf("asked to be writable: %v", err)
			}
			if err := f.Mount(soon(t), d.Path, target, typed(fsType), []string{"ro"}); err != nil {
				t.Fatal(err)
			}
			if err := f.Unmount(soon(t), target); err != nil {
				t.Fatal(err)
			}
			if d.Hash(t) != before {
				t.Error("the content has changed")
			}
		})
	}
}

func TestAWritableDeviceMountedReadOnlyIsNotWrittenTo(t *testing.T) {
	f := New(Options{})
	for _, fsType := range kinds() {
		t.Run(fsType, func(t *testing.T) {
			d := crashed(t, f, fsType, false)
			before := d.Hash(t)
			target := mountDir(t)
			if err := f.Mount(soon(t), d.Path, target, typed(fsType), []string{"ro"}); err != nil {
				t.Fatal(err)
			}
			if err := f.Unmount(soon(t), target); err != nil {
				t.Fatal(err)
			}
			if d.Hash(t) != before {
				t.Error("the content has changed")
			}
		})
	}
}

func TestAnUnrepairableFilesystemIsRefusedWithTheWordsOfFsck(t *testing.T) {
	f := New(Options{})
	for _, fsType := range []string{ext3, ext4} {
		d := formattedDisk(t, f, fsType)
		run(t, "debugfs", "-w", "-R", "clri <2>", d.Path)
		run(t, "debugfs", "-w", "-R", "set_super_value state 0", d.Path)
		err := f.Check(soon(t), d.Path, typed(fsType))
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "UNEXPECTED INCONSISTENCY") {
			t.Errorf("%s: %v", fsType, err)
		}
	}
}

func TestAnUncleanFilesystemIsRepaired(t *testing.T) {
	f := New(Options{})
	for _, fsType := range []string{ext2, ext3, ext4} {
		d := formattedDisk(t, f, fsType)
		run(t, "debugfs", "-w", "-R", "set_super_value state 2", d.Path)
		run(t, "debugfs", "-w", "-R", "set_super_value free_blocks_count 5", d.Path)
		if err := f.Check(soon(t), d.Path, typed(fsType)); err != nil {
			t.Errorf("%s: %v", fsType, err)
		}
		if unclean, err := needsCheck(d.Path, typed(ext4)); unclean || err != nil {
			t.Errorf("%s: still unclean, or %v", fsType, err)
		}
	}
}

func TestAFilesystemInUseIsNotChecked(t *testing.T) {
	f := New(Options{})
	d := blankDisk(t)
	if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(ext4), parsed(ext4, []string{"-O", "^has_journal"})); err != nil {
		t.Fatal(err)
	}
	target := mountDir(t)
	if err := f.Mount(soon(t), d.Path, target, typed(ext4), nil); err != nil {
		t.Fatal(err)
	}
	// Mounted without a journal it is unclean.
	if err := f.Check(soon(t), d.Path, typed(ext4)); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
}

// TestAJournalIsLeftToTheKernel: after a node has lost its power, every volume that it
// had would wait for an e2fsck that finds nothing.
func TestAJournalIsLeftToTheKernel(t *testing.T) {
	g := newGate("e2fsck")
	close(g.open)
	f := New(Options{Exec: g.exec()})
	d := formattedDisk(t, f, ext4)
	target := mountDir(t)
	if err := f.Mount(soon(t), d.Path, target, typed(ext4), nil); err != nil {
		t.Fatal(err)
	}
	copied := looptest.New(t, looptest.Options{Size: 512 * mib})
	if err := os.WriteFile(target+"/file", []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "sync", "-f", target)
	run(t, "dd", "if="+d.Path, "of="+copied.Path, "bs=1M", "conv=fsync", "iflag=direct", "status=none")
	if !strings.Contains(run(t, "dumpe2fs", "-h", copied.Path), "needs_recovery") {
		t.Fatal("its journal isn't in use")
	}
	if err := f.Check(soon(t), copied.Path, typed(ext4)); err != nil || g.started != 0 {
		t.Errorf("%v, after %d e2fsck", err, g.started)
	}
	again := mountDir(t)
	if err := f.Mount(soon(t), copied.Path, again, typed(ext4), nil); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(again + "/file"); string(data) != "data" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestLongChecksDoNotHoldUpShortOnes: a filesystem of terabytes takes e2fsck hours.
func TestLongChecksDoNotHoldUpShortOnes(t *testing.T) {
	f := New(Options{})
	for range checksAtOnce {
		release, err := f.checksOf(longCheck + 1).acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer release()
	}
	if err := f.Check(soon(t), uncleanDisk(t).Path, typed(ext4)); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := f.checksOf(longCheck + 1).acquire(ctx); !errors.Is(err, errNotStarted) {
		t.Errorf("a third long one: %v", err)
	}
}

func TestCheckRefusesWhatItWasNotToldOf(t *testing.T) {
	f := New(Options{})
	d := formattedDisk(t, f, xfs)
	if err := f.Check(soon(t), d.Path, typed(ext4)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an xfs said to be ext4: %v", err)
	}
}
