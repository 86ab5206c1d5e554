package filesystem

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// The names of the filesystems, which all programs share.
const (
	ext2 = "ext2"
	ext3 = "ext3"
	ext4 = "ext4"
)

// extType returns ext2, ext3 or ext4.
func extType(name string) *Type {
	t := &Type{
		Name: name, family: ext4, programs: []string{"e2fsck", "resize2fs"},
		dialect:  func() mkfs.Dialect { return mkfs.Ext(name) },
		smallest: 2 << 20, defaults: extDefaults,
		rehearsed: mkfs.Option{Name: "-E", Value: "lazy_journal_init=1"}, complete: extComplete,
		superblockAt: 1024, parse: parseExt, copies: extCopies,
		isCopy:        func(b []byte) bool { return binary.LittleEndian.Uint16(b[0x38:]) == extMagic },
		repair:        func(ctx context.Context, f *FS, path string) error { return f.e2fsck(ctx, path, "-p") },
		mountReadOnly: []string{"noload"},
		capability:    unix.CAP_SYS_RESOURCE, growMounted: growExtMounted, growUnmounted: growExtUnmounted,
	}
	switch name {
	case ext2:
		t.mountReadOnly = nil
	case ext4:
		t.defaults = ext4Defaults
		t.features = []feature{{"-O", "^orphan_file", version{1, 47}, version{5, 15}}}
	}
	return t
}

// extDefaults sets no blocks aside for root: a volume is no system disk.
func extDefaults(asked mkfs.List, _ int64) mkfs.List {
	return asked.DefaultSetting("-E", "nodiscard").Default("-m", "0")
}

// ext4Defaults leaves inode tables to the kernel, which zeroes them after the first
// mount, so that mkfs takes as long for 10 TiB as for 1 GiB. The journal is not left
// for later: what a device held there before must never be replayed.
func ext4Defaults(asked mkfs.List, size int64) mkfs.List {
	return extDefaults(asked.DefaultSetting("-E", "lazy_itable_init=1").DefaultSetting("-E", "lazy_journal_init=0"), size)
}

const extMagic = 0xEF53

// parseExt reads an ext2, ext3 or ext4 superblock.
func parseExt(b []byte) (superblock, bool) {
	const (
		cleanly        = 1    // s_state: unmounted cleanly
		errorsFound    = 2    // s_state: the kernel saw errors
		sixtyFour      = 0x80 // s_feature_incompat: block count has a high half
		resizeOverhead = 53   // blocks: two bitmaps, superblock, and the 50 that resize2fs wants free
	)
	le := binary.LittleEndian
	if len(b) < superLength || le.Uint16(b[0x38:]) != extMagic || le.Uint32(b[0x18:]) > 6 {
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
		devices: 1,
		size:    size,
		block:   int64(block), // #nosec G115 -- at most 64 KiB
		slack:   int64(min(inodeTable+(descriptors+resizeOverhead+1)*block, 1<<40)),
		mounted: le.Uint16(b[0x34:]) != 0 || le.Uint32(b[0x2C:]) != 0,
		narrow:  incompat&sixtyFour == 0,
		unclean: state&cleanly == 0 || state&errorsFound != 0,
	}, true
}

// extCopies returns where ext keeps backups of its superblock: in groups 1 and
// the powers of 3, 5 and 7, for every size of a block.
func extCopies(size int64, _ bool) []int64 {
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

// extComplete has e2fsck check a filesystem that was never mounted.
func extComplete(ctx context.Context, f *FS, path string) (bool, error) {
	_, status, err := f.Tool(ctx, nil, "e2fsck", "-f", "-n", path)
	return err == nil && status == 0, err
}

// e2fsck repairs as far as it does with the options. It fails with ErrBusy, or with
// ErrCorrupt and e2fsck's own words.
func (f *FS) e2fsck(ctx context.Context, path string, options ...string) error {
	const repaired = 1 | 2 // errors corrected; 2 also asks for a reboot, meant for a root filesystem
	output, status, err := f.Tool(ctx, nil, "e2fsck", append(options, path)...)
	switch {
	case err != nil || status == 0:
		return err
	case status&^repaired == 0:
		logging.From(ctx).Warn("filesystem repaired", zap.String("device", path), zap.String("e2fsck", words(output)))
		return nil
	}
	if err := Failed("e2fsck", status, output); errors.Is(err, ErrBusy) {
		return err
	}
	return fmt.Errorf("%w: e2fsck: exit status %d: %s", ErrCorrupt, status, words(output))
}

// growExtUnmounted grows a filesystem that nothing uses. resize2fs insists on a check of
// all, however clean the filesystem is.
func growExtUnmounted(ctx context.Context, f *FS, path string) error {
	if err := f.e2fsck(ctx, path, "-f", "-p"); err != nil {
		return err
	}
	return f.change(ctx, "resize2fs", path)
}

// growExtMounted asks the kernel itself, which is all that resize2fs does for a mounted
// filesystem; but resize2fs takes the first mount in the table, which may be
// read-only, and costs more than the growth.
func growExtMounted(_ context.Context, _ *FS, m MountPoint, s superblock, deviceSize int64) error {
	blocks := deviceSize / s.block
	if s.narrow && blocks > math.MaxUint32 {
		// resize2fs refuses that; not every kernel does.
		return fmt.Errorf("ext without the feature 64bit can't have %d blocks: %w", blocks, ErrOnlineGrowth)
	}
	root, err := openMount(m.Target, m.Number)
	if err != nil {
		return err
	}
	const request = ioctlWrite | 8<<16 | 'f'<<8 | 16                // EXT4_IOC_RESIZE_FS: a number of blocks
	wanted := binary.NativeEndian.AppendUint64(nil, uint64(blocks)) // #nosec G115 -- above 0
	err = errors.Join(ioctl(root, request, wanted), root.Close())
	for _, refused := range []error{unix.EPERM, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOTTY} {
		// The capability is there, but something else forbids it, such as a
		// feature of the filesystem that only resize2fs knows how to grow, or a
		// kernel whose driver for ext2 can't.
		if errors.Is(err, refused) {
			return fmt.Errorf("%w: the kernel refuses to grow ext: %w", ErrOnlineGrowth, err)
		}
	}
	return err
}
