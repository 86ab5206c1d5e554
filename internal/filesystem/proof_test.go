package filesystem

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

// keptByTheThoroughProof checks that a device isn't formatted, and stays as it is.
func keptByTheThoroughProof(t *testing.T, name string, d *looptest.Device) {
	t.Helper()
	before := d.Hash(t)
	if err := New(Options{}).Format(soon(t), Device{Path: d.Path}, Thorough, typed(ext4), nil); !errors.Is(err, ErrNotBlank) {
		t.Errorf("%s: %v", name, err)
	}
	if d.Hash(t) != before {
		t.Errorf("%s: it was written to", name)
	}
}

func TestTheThoroughProofOfABlankDevice(t *testing.T) {
	for _, size := range []int64{4 << 20, gib, gib + 512, 10 * gib, 1 << 40} {
		d := looptest.New(t, looptest.Options{Size: size})
		if err := New(Options{}).Format(soon(t), Device{Path: d.Path}, Thorough, typed(ext4), nil); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		d.Close()
		_ = os.Remove(d.Backing)
	}
}

// TestLostHeadsAreFound: whatever made the filesystem, and with whichever options,
// something tells of it when so much of its head is lost.
func TestLostHeadsAreFound(t *testing.T) {
	for _, c := range []struct {
		lost int64 // MiB
		size int64
		make []string
	}{
		{1, 10, []string{"mkfs.ext4", "-q", "-O", "sparse_super2", "-E", "num_backup_sb=0,packed_meta_blocks=1,lazy_itable_init=1"}},
		{1, 10, []string{"mkfs.ext4", "-q", "-F", "-b", "65536"}},
		{1, 10, []string{"mkfs.xfs", "-q", "-d", "su=64k,sw=4"}},
		{64, 10, []string{"mkfs.xfs", "-q", "-d", "su=512k,sw=8"}},
		{64, 10, []string{"mkfs.xfs", "-q", "-d", "agcount=12"}},
		{1024, 10, []string{"mkfs.xfs", "-q", "-d", "agcount=12"}},
		{1024, 50, []string{"mkfs.xfs", "-q", "-d", "agcount=37"}},
		{1024, 50, []string{"mkfs.xfs", "-q"}},
		{1024, 50, []string{"mkfs.ext4", "-q"}},
		{1024, 50, []string{"mkfs.ext4", "-q", "-O", "sparse_super2"}},
		{1024, 10, []string{"mkfs.ext4", "-q", "-b", "1024"}},
		{64, 10, []string{"mkfs.ext4", "-q", "-O", "bigalloc"}},
		{16, 10, []string{"mkfs.ext2", "-q"}},
		{64, 10, []string{"mkfs.btrfs", "-q"}},
		{64, 300, []string{"mkfs.btrfs", "-q", "-m", "single", "-d", "single"}},
		{1024, 300, []string{"mkfs.btrfs", "-q"}}, // the copy at 256 GiB
	} {
		d := looptest.New(t, looptest.Options{Size: c.size * gib})
		run(t, c.make[0], append(c.make[1:], d.Path)...)
		zero(t, d, 0, c.lost*mib)
		keptByTheThoroughProof(t, fmt.Sprintf("%v, %d MiB lost", c.make, c.lost), d)
		d.Close()
		_ = os.Remove(d.Backing)
	}
}

// zero has a part of a device read as zeros.
func zero(t *testing.T, d *looptest.Device, at, length int64) {
	t.Helper()
	file, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	span := [2]uint64{uint64(at), uint64(length)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), unix.BLKZEROOUT, uintptrOf(&span)); errno != 0 {
		t.Fatal(errno)
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
}

// TestLUKSWithoutItsHeaderIsFound by its payload, which is noise.
func TestLUKSWithoutItsHeaderIsFound(t *testing.T) {
	for _, at := range []int64{16 * mib, 16*mib + 5<<30/2, 9 * gib} {
		d := looptest.New(t, looptest.Options{Size: 10 * gib})
		noise := make([]byte, 4*mib)
		for i := range noise {
			noise[i] = byte(rand.Uint32() | 1)
		}
		d.Write(t, noise, at)
		keptByTheThoroughProof(t, fmt.Sprintf("noise at byte %d", at), d)
	}
}

// TestNoExtentOf16MiBHides, wherever it begins, and no byte of the first GiB does.
func TestNoExtentOf16MiBHides(t *testing.T) {
	for _, size := range []int64{3 * gib, 1<<40 + 7*gib, 5 << 40, 64 << 40} {
		plan, every := thoroughly(size), distance(size)
		covered := make(map[int64]bool)
		var last, most, reads int64
		for i := range plan.count {
			e := plan.at(i)
			if e.length <= 0 || e.offset < 0 || e.offset+e.length > size || e.length > whole {
				t.Fatalf("size %d: %+v", size, e)
			}
			reads++
			if i < 1024 && e.offset != i*whole {
				t.Fatalf("size %d: the head isn't read whole: %+v", size, e)
			}
			if i >= plan.count-(size/every-headWhole/every) && e.offset%every == 0 {
				if last > 0 {
					most = max(most, e.offset-last)
				}
				last = e.offset
			}
			covered[e.offset/farthestPlaces] = true
		}
		for at := range size / farthestPlaces {
			if !covered[at] {
				t.Fatalf("size %d: nothing is read from byte %d on", size, at*farthestPlaces)
			}
		}
		if most > farthestPlaces || reads > 5<<20 {
			t.Errorf("size %d: %d reads, as much as %d bytes apart", size, reads, most)
		}
	}
	d := looptest.New(t, looptest.Options{Size: 6 * gib})
	for _, at := range []int64{gib - 1, 500*mib + 77, 3*gib + 12345, 6*gib - 1 - 16*mib} {
		data := make([]byte, 1)
		if at > gib {
			data = make([]byte, 16*mib)
		}
		for i := range data {
			data[i] = 1
		}
		d.Write(t, data, at)
		keptByTheThoroughProof(t, fmt.Sprintf("data at byte %d", at), d)
		zero(t, d, at&^4095, (int64(len(data))+8191)&^4095)
	}
}

// TestTheGroupsOfAGrownXFSAreRead, of whichever size it was made, in the clear or behind a
// LUKS header.
func TestTheGroupsOfAGrownXFSAreRead(t *testing.T) {
	for made := int64(1); made <= 64; made++ {
		for _, size := range []int64{64, 100, 333} {
			for _, offset := range []int64{0, 16 * mib} {
				group := (made*gib - offset) / 4
				for at := group; at+mib < size*gib-offset; at += group {
					if raw := at + offset; raw > headWhole && raw%distance(size*gib) != 0 {
						t.Fatalf("made with %d GiB from byte %d on: a group at byte %d isn't read", made, offset, raw)
					}
				}
			}
		}
	}
}

// TestAThoroughProofGoesOnWithoutItsCall: it is held up by its turns here.
func TestAThoroughProofGoesOnWithoutItsCall(t *testing.T) {
	f := New(Options{})
	d := looptest.New(t, looptest.Options{Size: 2 * gib})
	var held []func()
	for range proofsAtOnce {
		release, err := f.proofs.semaphore.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, release)
	}
	before := d.Hash(t)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := f.Format(ctx, Device{Path: d.Path}, Thorough, typed(ext4), nil)
		cancel()
		if !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	if n := len(f.proofs.running); n != 1 {
		t.Errorf("%d proofs run", n)
	}
	for _, release := range held {
		release()
	}
	var ended *proving
	for _, p := range f.proofs.running {
		ended = p
	}
	<-ended.done
	if d.Hash(t) != before {
		t.Error("it was written to without a call")
	}
	read := ended.plan.bytes.Load()
	if err := f.Format(soon(t), Device{Path: d.Path}, Thorough, typed(ext4), nil); err != nil || len(f.proofs.running) != 0 || read < gib {
		t.Errorf("%v; %d bytes were read, %d proofs are left", err, read, len(f.proofs.running))
	}
}

// TestWhatIsWrittenAfterAThoroughProofIsFound: its outcome is for what was read.
func TestWhatIsWrittenAfterAThoroughProofIsFound(t *testing.T) {
	f := New(Options{})
	d := looptest.New(t, looptest.Options{Size: 2 * gib})
	p, _, err := f.proofs.begin(t.Context(), Device{Path: d.Path}, 2*gib)
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	d.Write(t, []byte("precious"), 700*mib)
	keptBefore := d.Hash(t)
	if err := f.Format(soon(t), Device{Path: d.Path}, Thorough, typed(ext4), nil); !errors.Is(err, ErrNotBlank) || d.Hash(t) != keptBefore {
		t.Errorf("%v", err)
	}
}

// TestAUsedXFSWithFewFilesIsKept: 48 files in 48 directories of 12 groups.
func TestAUsedXFSWithFewFilesIsKept(t *testing.T) {
	f := New(Options{})
	for _, options := range [][]string{{"-d", "agcount=12"}, {"-d", "su=64k,sw=4"}, nil} {
		d := looptest.New(t, looptest.Options{Size: 10 * gib})
		run(t, "mkfs.xfs", append(options, "-q", d.Path)...)
		dir := mountDir(t)
		if err := f.Mount(soon(t), d.Path, dir, typed(xfs), nil); err != nil {
			t.Fatal(err)
		}
		for i := range 48 {
			sub := filepath.Join(dir, fmt.Sprint(i))
			if err := errors.Join(os.MkdirAll(sub, 0o755), os.WriteFile(filepath.Join(sub, "f"), []byte(strings.Repeat("important\n", 5000)), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Unmount(soon(t), dir); err != nil {
			t.Fatal(err)
		}
		zero(t, d, 0, 4*mib)
		keptByTheThoroughProof(t, fmt.Sprint(options), d)
	}
}

// TestAThoroughProofOfAMappingReadsBeneath it, whatever noise it shows itself.
func TestAThoroughProofOfAMappingReadsBeneath(t *testing.T) {
	below := looptest.New(t, looptest.Options{Size: 2 * gib})
	below.Write(t, luks1(), 0)
	d := looptest.New(t, looptest.Options{Size: 2*gib - 16*mib})
	d.Write(t, []byte("noise"), 700*mib)
	on := Device{Path: d.Path, Beneath: &Beneath{Path: below.Path, Offset: 16 * mib}}
	f := New(Options{})
	if err := f.proveThoroughly(soon(t), on, 2*gib-16*mib); err != nil {
		t.Error(err)
	}
	below.Write(t, []byte("ciphertext"), 716*mib)
	if err := f.Format(soon(t), on, Thorough, typed(ext4), nil); !errors.Is(err, ErrNotBlank) {
		t.Errorf("%v", err)
	}
}

// TestNoOptionThatIsAcceptedHides: made by this driver with each, and used or not,
// a filesystem without its first GiB is found as long as anything else is there.
func TestNoOptionThatIsAcceptedHides(t *testing.T) {
	f := New(Options{})
	for _, c := range []struct{ fsType, options string }{
		{xfs, "-d su=64k,sw=4"}, {xfs, "-d su=4m,sw=1"}, {xfs, "-d sunit=128,swidth=512"}, {xfs, "-d agcount=2"}, {xfs, "-d agcount=32"},
		{xfs, "-b size=1024"}, {xfs, "-m crc=0,finobt=0,reflink=0,rmapbt=0,bigtime=0,inobtcount=0"},
		{ext4, "-O sparse_super2"}, {ext4, "-O meta_bg,^resize_inode"}, {ext4, "-G 64"}, {ext4, "-b 1024"}, {ext4, "-O ^has_journal"},
		{ext3, "-b 2048"}, {ext2, ""},
	} {
		d := looptest.New(t, looptest.Options{Size: 10 * gib})
		if err := f.Format(soon(t), owned(d), Quick, typed(c.fsType), parsed(c.fsType, strings.Fields(c.options))); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		zero(t, d, 0, gib)
		keptByTheThoroughProof(t, fmt.Sprintf("%+v", c), d)
		d.Close()
		_ = os.Remove(d.Backing)
	}
}

func BenchmarkThoroughProof(b *testing.B) {
	for name, size := range map[string]int64{"1 GiB": gib, "10 GiB": 10 * gib, "1 TiB": 1 << 40, "8 TiB": 8 << 40} {
		b.Run(name, func(b *testing.B) {
			d := looptest.New(b, looptest.Options{Size: size})
			for b.Loop() {
				if err := New(Options{}).proveThoroughly(b.Context(), Device{Path: d.Path}, size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
