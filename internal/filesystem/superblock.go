package filesystem

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

// superblock is what this package needs to know of a filesystem's own record
// of itself.
type superblock struct {
	fsType string // ext2, ext3 and ext4 are all ext4 here: they differ in nothing that matters
	size   int64  // bytes that the filesystem covers
	block  int64  // bytes of a block
	// slack is how many bytes at the end of a device may stay unused because
	// the filesystem can't make use of so few.
	slack int64
	// unclean: an ext filesystem has errors on record, or has no journal and wasn't
	// unmounted. One with a journal is put in order by the kernel when it is mounted.
	unclean bool
	// mounted: an ext filesystem was mounted for writing since it was made.
	mounted bool
	// narrow: the blocks of an ext filesystem have numbers of 32 bits.
	narrow bool
	// devices and deviceID are btrfs's: how many disks it is made of, and which
	// of them this is.
	devices, deviceID uint64
}

// Where superblocks are, and how long a piece is enough to parse them.
const (
	extOffset   = 1024
	xfsOffset   = 0
	btrfsOffset = 64 << 10
	superLength = 1024
)

// readSuperblock reads the superblock of whichever filesystem is there.
func readSuperblock(r io.ReaderAt) (superblock, error) {
	for _, known := range []struct {
		offset int64
		parse  func([]byte) (superblock, bool)
	}{{extOffset, parseExt}, {xfsOffset, parseXFS}, {btrfsOffset, parseBtrfs}} {
		buf := make([]byte, superLength)
		if _, err := r.ReadAt(buf, known.offset); err != nil {
			if err == io.EOF {
				continue
			}
			return superblock{}, fmt.Errorf("read the superblock: %w", err)
		}
		if s, ok := known.parse(buf); ok {
			return s, nil
		}
	}
	return superblock{}, fmt.Errorf("%w: no superblock of ext, xfs or btrfs", ErrUnsupported)
}

// product multiplies two sizes; false when the result isn't a sensible one.
func product(a, b uint64) (int64, bool) {
	high, low := bits.Mul64(a, b)
	return int64(low), high == 0 && low > 0 && low < 1<<63 // #nosec G115 -- checked
}

// parseExt reads an ext2, ext3 or ext4 superblock.
func parseExt(b []byte) (superblock, bool) {
	const (
		magic          = 0xEF53
		cleanly        = 1    // s_state: unmounted cleanly
		errorsFound    = 2    // s_state: the kernel saw errors
		sixtyFour      = 0x80 // s_feature_incompat: block count has a high half
		resizeOverhead = 53   // blocks: two bitmaps, superblock, and the 50 that resize2fs wants free
	)
	le := binary.LittleEndian
	if len(b) < superLength || le.Uint16(b[0x38:]) != magic || le.Uint32(b[0x18:]) > 6 {
		return superblock{}, false
	}
	block := uint64(1024) << le.Uint32(b[0x18:])
	blocks := uint64(le.Uint32(b[0x04:]))
	incompat := le.Uint32(b[0x60:])
	if incompat&sixtyFour != 0 {
		blocks |= uint64(le.Uint32(b[0x150:])) << 32
	}
	size, ok := product(blocks, block)
	if !ok {
		return superblock{}, false
	}
	inodeSize := uint64(le.Uint16(b[0x58:]))
	if le.Uint32(b[0x4C:]) == 0 { // the first revision had inodes of one size
		inodeSize = 128
	}
	inodeTable := uint64(le.Uint32(b[0x28:])) * inodeSize // of one group
	descriptors := uint64(le.Uint16(b[0xCE:])) + 1        // blocks, reserved ones too
	state := le.Uint16(b[0x3A:])
	return superblock{
		fsType:  ext4,
		size:    size,
		block:   int64(block), // #nosec G115 -- at most 64 KiB
		slack:   int64(min(inodeTable+(descriptors+resizeOverhead+1)*block, 1<<40)),
		mounted: le.Uint16(b[0x34:]) != 0 || le.Uint32(b[0x2C:]) != 0,
		narrow:  incompat&sixtyFour == 0,
		unclean: state&cleanly == 0 || state&errorsFound != 0,
	}, true
}

// parseXFS reads an XFS superblock.
func parseXFS(b []byte) (superblock, bool) {
	const (
		minGroup   = 64  // blocks: a smaller last allocation group isn't made
		stripe     = 188 // sb_width: blocks of a stripe, to which mkfs rounds
		inProgress = 126 // sb_inprogress: mkfs hasn't ended, and the kernel doesn't mount it
	)
	be := binary.BigEndian
	if len(b) < superLength || !bytes.HasPrefix(b, []byte("XFSB")) || b[inProgress] != 0 {
		return superblock{}, false
	}
	block := uint64(be.Uint32(b[4:]))
	size, ok := product(be.Uint64(b[8:]), block)
	if !ok || block < 512 || block > 64<<10 {
		return superblock{}, false
	}
	return superblock{
		fsType: xfs, size: size, block: int64(block), slack: int64(max(minGroup, uint64(be.Uint32(b[stripe:])))) * int64(block),
	}, true
}

// parseBtrfs reads a btrfs superblock. Its size is that of the one device, not
// the sum of all.
func parseBtrfs(b []byte) (superblock, bool) {
	const deviceItem = 0xC9
	le := binary.LittleEndian
	if len(b) < superLength || !bytes.Equal(b[0x40:0x48], []byte("_BHRfS_M")) {
		return superblock{}, false
	}
	sector := uint64(le.Uint32(b[0x90:]))
	size, ok := product(le.Uint64(b[deviceItem+8:]), 1)
	if !ok || sector < 512 || sector > 64<<10 {
		return superblock{}, false
	}
	return superblock{
		fsType: btrfs, size: size, block: int64(sector), slack: int64(sector),
		devices: le.Uint64(b[0x88:]), deviceID: le.Uint64(b[deviceItem:]),
	}, true
}
