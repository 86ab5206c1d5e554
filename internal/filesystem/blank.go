package filesystem

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// edge is how much is read at the head and at the tail of a device:
	// superblocks, labels and headers of everything from GPT to ZFS lie there.
	// The few signatures beyond are in farPlaces.
	edge = 1 << 20
	// piece is how much is read at each other place.
	piece = 4 << 10
	// stride is the distance of the places that are read throughout a device,
	// for the groups of a filesystem that has been grown. Volumes come in whole
	// GiB, and an XFS is made with four groups.
	stride = 256 << 20
	// maxStrides bounds them: beyond, the distance is doubled.
	maxStrides = 1024
	// chunk is how much is compared in one go.
	chunk = 128 << 10
)

// lostPrimary begins the description of what is left of a filesystem.
const lostPrimary = "a filesystem without its primary superblock"

// extent is a stretch of a device.
type extent struct{ offset, length int64 }

// telling returns the stretches of a device that must be zero before it may
// pass for blank: head, tail, and wherever ext, XFS, btrfs and LUKS2 keep
// copies of their superblocks.
// Besides, it returns those that are given.
func telling(size int64, besides ...int64) []extent {
	places := slices.Concat(besides, extPlaces(size), xfsPlaces(size), btrfsPlaces(), luksPlaces(), farPlaces(size), markPlaces(size))
	step := int64(stride)
	for size/step > maxStrides {
		step *= 2
	}
	for at := step; at < size; at += step {
		places = append(places, at)
	}
	tail := max(0, size-edge)
	extents := []extent{{0, min(edge, size)}}
	slices.Sort(places)
	last := int64(-1)
	for _, at := range places {
		at -= at % piece
		if at < edge || at >= tail || at == last {
			continue
		}
		extents = append(extents, extent{at, min(piece, tail-at)})
		last = at
	}
	if tail < edge {
		tail = min(edge, size)
	}
	if tail < size {
		extents = append(extents, extent{tail, size - tail})
	}
	return extents
}

// extPlaces returns where ext keeps backups of its superblock: in groups 1 and
// the powers of 3, 5 and 7, for every size of a block.
func extPlaces(size int64) []int64 {
	var places []int64
	for block := int64(1 << 10); block <= 64<<10; block *= 2 {
		first := int64(0)
		if block == 1<<10 {
			first = 1 // the block before the first group holds the boot sector
		}
		group := 8 * block // blocks, as many as one bitmap has bits
		add := func(n int64) bool {
			at := (n*group + first) * block
			places = append(places, at)
			return at < size
		}
		add(1)
		for _, base := range []int64{3, 5, 7} {
			for n := base; add(n); n *= base {
			}
		}
	}
	return places
}

// xfsPlaces returns where the allocation groups of an XFS begin that was made
// with so many of them as mkfs.xfs likes.
func xfsPlaces(size int64) []int64 {
	var places []int64
	for _, groups := range []int64{2, 4, 8, 16, 32} {
		places = append(places, groupPlaces(size, groups)...)
	}
	const largest = 1 << 40 // bytes of a group, of more than 4 TiB
	for at := int64(largest); at < size; at += largest {
		places = append(places, at)
	}
	return places
}

// groupPlaces returns where the groups of an XFS of so many begin.
func groupPlaces(size, groups int64) []int64 {
	const block = 4 << 10
	group := (size/block + groups - 1) / groups
	var places []int64
	for n := int64(1); n < groups; n++ {
		places = append(places, n*group*block)
	}
	return places
}

// btrfsPlaces returns where btrfs keeps mirrors of its superblock.
func btrfsPlaces() []int64 {
	return []int64{64 << 20, 256 << 30, 1 << 50}
}

// luksPlaces returns where the second header of LUKS2 may be beyond the head.
func luksPlaces() []int64 {
	return []int64{1 << 20, 2 << 20, 4 << 20}
}

// farPlaces returns where the signatures lie that are known to libblkid and far
// from both ends: VMFS, and the outermost of Promise's RAID.
func farPlaces(size int64) []int64 {
	return []int64{1 << 20, 2 << 20, size - 3087*512}
}

// firstData reads the telling parts of a device. It returns what it found that
// isn't zero, or "" when there is nothing. A part that can't be read is an error.
func firstData(ctx context.Context, d *handle) (string, error) {
	extents := telling(d.size)
	// All that will be read is asked for at once, so that the latency of a
	// network counts but once; reading ahead beyond it would multiply what the
	// scattered pieces cost. That advice isn't taken is no reason to stop.
	_ = unix.Fadvise(int(d.Fd()), 0, 0, unix.FADV_RANDOM)
	for _, e := range extents {
		_ = unix.Fadvise(int(d.Fd()), e.offset, e.length, unix.FADV_WILLNEED)
	}
	return firstDataIn(ctx, d, extents, 1)
}

// firstDataIn reads extents, so many at once and in any order, and returns what
// firstData does.
func firstDataIn(ctx context.Context, r io.ReaderAt, extents []extent, readers int) (string, error) {
	found := make([]string, len(extents))
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range readers {
		group.Go(func() error {
			buf := aligned(chunk)
			for i := next.Add(1) - 1; int(i) < len(extents); i = next.Add(1) - 1 {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				var err error
				if found[i], err = dataIn(r, extents[i], buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	// What names a filesystem says more than what comes first.
	for _, f := range found {
		if strings.HasPrefix(f, lostPrimary) {
			return f, nil
		}
	}
	return cmp.Or(found...), nil
}

// dataIn returns in words what isn't zero in a stretch of a device. It reads
// through buf, which has room for a superblock.
func dataIn(r io.ReaderAt, e extent, buf []byte) (string, error) {
	for end := e.offset + e.length; e.offset < end; e.offset += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), end-e.offset)]
		if _, err := r.ReadAt(buf, e.offset); err != nil {
			return "", fmt.Errorf("read %d bytes at byte %d: %w", len(buf), e.offset, err)
		}
		if at := firstNonZero(buf); at >= 0 {
			return describe(buf, e.offset, at), nil
		}
	}
	return "", nil
}

// firstNonZero returns the index of the first byte that isn't zero, or -1.
func firstNonZero(buf []byte) int {
	var zeros [piece]byte
	for start := 0; start < len(buf); start += piece {
		part := buf[start:min(start+piece, len(buf))]
		if bytes.Equal(part, zeros[:len(part)]) {
			continue
		}
		for i, b := range part {
			if b != 0 {
				return start + i
			}
		}
	}
	return -1
}

// describe names the data at index at of buf, which was read at base. At these
// places even a copy of a superblock whose primary is lost can be told.
func describe(buf []byte, base int64, at int) string {
	start := at - at%superLength
	part := buf[start:]
	where := base + int64(start)
	var kind string
	switch {
	case bytes.HasPrefix(part, []byte(markMagic)):
		return fmt.Sprintf("the mark of a mkfs that never ended, of another volume, at byte %d", where)
	case len(part) >= superLength && binary.LittleEndian.Uint16(part[0x38:]) == 0xEF53:
		kind = "ext"
	case bytes.HasPrefix(part, []byte("XFSB")):
		kind = xfs
	case len(part) >= superLength && bytes.Equal(part[0x40:0x48], []byte("_BHRfS_M")):
		kind = btrfs
	default:
		return fmt.Sprintf("data without a known signature at byte %d", base+int64(at))
	}
	return fmt.Sprintf("%s: %s, a copy of it is at byte %d", lostPrimary, kind, where)
}

// Beneath is where the bytes of a mapping really are, one that encrypts: on
// another device, from an offset on.
type Beneath struct {
	// Path is the device node of that other device.
	Path string
	// Offset is the first byte that belongs to the mapping.
	Offset int64
}

// readers is how many places are read at once past the page cache, into which the
// kernel could be told to read them all ahead. A volume is reached over a network,
// where latency counts and not throughput.
const readers = 8

// firstData reads, beneath a mapping of that size, what firstData would read of
// it, and returns the same. Where the device beneath was blank when encryption
// was put on it, these are zeros until something is written to the mapping.
//
// What the kernel remembers of the device beneath is passed by: a mapping writes
// to the disk without telling, and zeros that were read before would stay.
func (b Beneath) firstData(ctx context.Context, size int64) (string, error) {
	f, err := os.OpenFile(b.Path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return "", fmt.Errorf("device beneath: %w", err)
	}
	found, err := firstDataIn(ctx, shifted{f, b.Offset}, telling(size), readers)
	return found, errors.Join(err, f.Close())
}

// shifted reads from an offset on.
type shifted struct {
	r  io.ReaderAt
	by int64
}

func (s shifted) ReadAt(p []byte, at int64) (int, error) { return s.r.ReadAt(p, at+s.by) }

// aligned returns memory that the kernel can read into without the page cache.
func aligned(size int) []byte {
	buf := make([]byte, size+piece)
	skip := piece - int(uintptr(unsafe.Pointer(&buf[0]))%piece) // #nosec G103 -- only its value counts
	return buf[skip : skip+size]
}
