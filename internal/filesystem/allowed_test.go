package filesystem

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// TestWhatOptionsMakeIsMountedAndGrows at the first attempt, for volumes of whole GiB
// and for what LUKS2 leaves of them; or they are refused, and nothing is written. What
// this kernel may not have been built with, and resize2fs wants to be forced to, isn't
// in it: quota and bigalloc.
func TestWhatOptionsMakeIsMountedAndGrows(t *testing.T) {
	f := New(Options{})
	for _, c := range []struct {
		fsType, options string
		refused         bool // on 1 GiB, and so before anything is written
	}{
		{xfs, "", false}, {xfs, "-d su=64k,sw=4", false}, {xfs, "-d su=512k,sw=8", false}, {xfs, "-d sunit=128,swidth=512", false},
		{xfs, "-d su=4m,sw=1", false}, {xfs, "-d su=4m,sw=16", false}, {xfs, "-d agcount=8", false}, {xfs, "-d agcount=12", true},
		{xfs, "-d agsize=1000m", true}, {xfs, "-b size=1024", false}, {xfs, "-s size=4096", false}, {xfs, "-l size=64m", false},
		{xfs, "-l size=2g", true}, {xfs, "-m rmapbt=1", false}, {xfs, "-m crc=0,reflink=1", true}, {xfs, "-K", false},
		{xfs, "-i size=2048 -b size=1024", true},
		{ext4, "-b 1024", false}, {ext4, "-O meta_bg,^resize_inode", false},
		{ext4, "-O sparse_super2", false}, {ext4, "-G 64", false}, {ext4, "-i 1024", false}, {ext4, "-O ^has_journal", false},
		{ext4, "-T largefile4", false}, {ext4, "-m0 -Enodiscard", false}, {ext4, "-b 1024 -I 2048", true},
		{ext4, "-E resize=1", true}, {ext4, "-J size=4000", true}, {ext4, "-E packed_meta_blocks=1", true},
		{ext3, "-b 1024", false}, {ext2, "", false},
		{btrfs, "-m single -d single", false}, {btrfs, "--nodesize=32768", false}, {btrfs, "--csum xxhash", false},
		{btrfs, "-O zoned", true}, {btrfs, "-M -n 16k", true},
	} {
		for _, size := range []int64{gib, 3*gib - 16*mib} {
			name := c.fsType + " " + c.options
			d := looptest.New(t, looptest.Options{Size: size})
			before := d.Hash(t)
			options, err := typed(c.fsType).dialect().Parse(strings.Fields(c.options))
			if err == nil {
				err = f.Format(soon(t), owned(d), Quick, typed(c.fsType), options)
			}
			switch {
			case c.refused && err == nil && size == gib:
				t.Errorf("%s: it is accepted", name)
			case err != nil && (!c.refused || !errors.Is(err, mkfs.ErrOptions) || d.Hash(t) != before):
				t.Errorf("%s, %d MiB: %v, something was written: %t", name, size/mib, err, d.Hash(t) != before)
			case err == nil:
				mountAndGrow(t, f, d, name, c.fsType, size+gib)
			}
			d.Close()
			_ = os.Remove(d.Backing)
		}
	}
}

// mountAndGrow uses a device as a stage and an expansion do.
func mountAndGrow(t *testing.T, f *FS, d *looptest.Device, name, fsType string, size int64) {
	t.Helper()
	if c, err := f.Probe(soon(t), owned(d)); err != nil || c.Kind != Filesystem || c.Type != fsType {
		t.Errorf("%s: it is recognised as %+v, %v", name, c, err)
	}
	dir := mountDir(t)
	if err := f.Mount(soon(t), d.Path, dir, typed(fsType), nil); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	online := typed(fsType).GrowsOnline()
	d.Grow(t, size)
	if online {
		if _, err := f.Grow(soon(t), d.Path, dir); err != nil && !errors.Is(err, ErrOnlineGrowth) {
			t.Errorf("%s: grown in use: %v", name, err)
		}
	}
	if err := f.Unmount(soon(t), dir); err != nil {
		t.Fatal(err)
	}
	if typed(fsType).growUnmounted != nil {
		if _, err := f.Grow(soon(t), d.Path, ""); err != nil {
			t.Errorf("%s: grown unmounted: %v", name, err)
		}
	}
}
