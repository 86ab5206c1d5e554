package filesystem

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

const btrfs = "btrfs"

func btrfsType() *Type {
	return &Type{
		Name: btrfs, family: btrfs, programs: []string{"btrfs"},
		dialect:   mkfs.Btrfs,
		smallest:  109 << 20, // with the usual profiles: 16 MiB nodes, twice for metadata
		arguments: []string{"-K"}, defaults: func(asked mkfs.List, _ int64) mkfs.List { return asked },
		superblockAt: 64 << 10, parse: parseBtrfs,
		copies:        func(int64, bool) []int64 { return []int64{64 << 20, 256 << 30, 1 << 50} },
		isCopy:        isBtrfs,
		mountReadOnly: []string{"rescue=nologreplay"}, OwnDiscard: true, diskOf: btrfsDisk,
		capability: -1, growMounted: growBtrfsMounted, sizeMounted: btrfsSize,
	}
}

func isBtrfs(b []byte) bool { return bytes.Equal(b[0x40:0x48], []byte("_BHRfS_M")) }

// parseBtrfs reads a btrfs superblock. Its size is that of the one device, not
// the sum of all.
func parseBtrfs(b []byte) (superblock, bool) {
	const deviceItem = 0xC9
	le := binary.LittleEndian
	if len(b) < superLength || !isBtrfs(b) {
		return superblock{}, false
	}
	sector := uint64(le.Uint32(b[0x90:]))
	size, ok := product(le.Uint64(b[deviceItem+8:]), 1)
	if !ok || sector < 512 || sector > 64<<10 {
		return superblock{}, false
	}
	return superblock{
		size: size, block: int64(sector), slack: int64(sector),
		devices: le.Uint64(b[0x88:]), deviceID: le.Uint64(b[deviceItem:]),
	}, true
}

func growBtrfsMounted(ctx context.Context, f *FS, m MountPoint, s superblock, _ int64) error {
	return f.change(ctx, "btrfs", "filesystem", "resize", strconv.FormatUint(s.deviceID, 10)+":max", m.Target)
}

// Requests of btrfs: the size of what they pass, and the request.
const (
	btrfsInfoSize = 1024 // struct btrfs_ioctl_fs_info_args
	btrfsDevSize  = 4096 // struct btrfs_ioctl_dev_info_args
	btrfsInfo     = ioctlRead | btrfsInfoSize<<16 | 0x94<<8 | 31
	btrfsDevInfo  = ioctlRead | ioctlWrite | btrfsDevSize<<16 | 0x94<<8 | 30
)

// btrfsIdentity is what a mounted btrfs tells about itself.
type btrfsIdentity struct {
	highest, devices uint64 // highest id of a disk, and how many there are
	uuid             [16]byte
}

// id returns the filesystem's UUID, as sysfs writes it.
func (b btrfsIdentity) id() string {
	u := b.uuid
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// btrfsInfoOf asks the btrfs at target for its identity, provided that this is the
// mount with that id. The number that stat reports of a btrfs is a subvolume's, and
// proves nothing.
func btrfsInfoOf(target string, mountID uint64) (btrfsIdentity, error) {
	f, err := os.OpenFile(target, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return btrfsIdentity{}, err
	}
	var st unix.Statx_t
	err = unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	if err == nil && (st.Mask&unix.STATX_MNT_ID == 0 || st.Mnt_id != mountID) {
		err = fmt.Errorf("%w: another mount is at %s", ErrNotMounted, target)
	}
	if err != nil {
		return btrfsIdentity{}, errors.Join(err, f.Close())
	}
	identity, err := btrfsIdentify(f)
	return identity, errors.Join(err, f.Close())
}

func btrfsIdentify(f *os.File) (btrfsIdentity, error) {
	buf := make([]byte, btrfsInfoSize)
	if err := ioctl(f, btrfsInfo, buf); err != nil {
		return btrfsIdentity{}, fmt.Errorf("ask btrfs for its identity: %w", err)
	}
	identity := btrfsIdentity{
		highest: binary.NativeEndian.Uint64(buf[0:]), devices: binary.NativeEndian.Uint64(buf[8:]),
	}
	copy(identity.uuid[:], buf[16:])
	return identity, nil
}

// btrfsSize asks a mounted btrfs on a single disk for the bytes it uses of that
// disk, and for the disk's id.
func btrfsSize(root *os.File, s *superblock) error {
	identity, err := btrfsIdentify(root)
	if err != nil {
		return err
	}
	if identity.devices != 1 {
		return fmt.Errorf("%w: btrfs on %d disks", ErrUnsupported, identity.devices)
	}
	for id := uint64(1); id <= min(identity.highest, 1<<10); id++ {
		buf := make([]byte, btrfsDevSize)
		binary.NativeEndian.PutUint64(buf, id)
		err := ioctl(root, btrfsDevInfo, buf)
		if errors.Is(err, unix.ENODEV) {
			continue // an id that was given up
		}
		if err != nil {
			return fmt.Errorf("ask btrfs for its size: %w", err)
		}
		// After the id: 16 bytes of UUID and 8 of bytes in use.
		size, ok := product(binary.NativeEndian.Uint64(buf[32:]), 1)
		if !ok {
			return errors.New("btrfs tells a size that makes no sense")
		}
		s.size, s.deviceID = size, id
		return nil
	}
	return errors.New("btrfs doesn't name its disk")
}

// btrfsDisk returns the number of the one disk that a btrfs is on. The
// filesystem itself is asked where it can be reached through the mount; else
// the name it was mounted by has to do.
func btrfsDisk(m MountPoint) (uint64, error) {
	number, err := btrfsDiskBySysfs(m)
	if err == nil {
		return number, nil
	}
	var st unix.Stat_t
	if statErr := unix.Stat(m.Source, &st); statErr != nil {
		return 0, errors.Join(err, statErr)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, errors.Join(err, fmt.Errorf("%s is not a block device", m.Source))
	}
	return st.Rdev, nil
}

// btrfsDiskBySysfs asks the mounted filesystem for its id, and sysfs for the
// disk of the filesystem with that id.
func btrfsDiskBySysfs(m MountPoint) (uint64, error) {
	info, err := btrfsInfoOf(m.Target, m.id)
	if err != nil {
		return 0, err
	}
	entries, err := filepath.Glob("/sys/fs/btrfs/" + info.id() + "/devices/*/dev")
	if err != nil || len(entries) != 1 {
		return 0, fmt.Errorf("btrfs %s is on %d disks", info.id(), len(entries))
	}
	data, err := os.ReadFile(entries[0])
	if err != nil {
		return 0, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(data), "%d:%d", &major, &minor); err != nil {
		return 0, fmt.Errorf("%s: %w", entries[0], err)
	}
	return unix.Mkdev(major, minor), nil
}
