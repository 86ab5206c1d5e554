package filesystem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of ioctl(2), whose encoding differs between architectures: the bit
// for reading is taken from a request that the unix package knows.
const (
	ioctlRead  = unix.BLKGETSIZE64 & 0xe0000000
	ioctlWrite = 0xc0000000 &^ ioctlRead

	xfsGeometrySize = 112  // struct xfs_fsop_geom_v1
	xfsGrowSize     = 16   // struct xfs_growfs_data
	btrfsInfoSize   = 1024 // struct btrfs_ioctl_fs_info_args
	btrfsDevSize    = 4096 // struct btrfs_ioctl_dev_info_args

	xfsGeometry  = ioctlRead | xfsGeometrySize<<16 | 'X'<<8 | 100
	xfsGrow      = ioctlWrite | xfsGrowSize<<16 | 'X'<<8 | 110
	extGrow      = ioctlWrite | 8<<16 | 'f'<<8 | 16 // a number of blocks
	btrfsInfo    = ioctlRead | btrfsInfoSize<<16 | 0x94<<8 | 31
	btrfsDevInfo = ioctlRead | ioctlWrite | btrfsDevSize<<16 | 0x94<<8 | 30
)

// ioctl passes buf, which must be as long as the request says.
func ioctl(f *os.File, request uintptr, buf []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&buf[0]))) // #nosec G103 -- the kernel fills the buffer
	if errno != 0 {
		return errno
	}
	return nil
}

// openMount opens the root of a mount, provided that it is of the filesystem
// with the number that stat reports in st_dev.
func openMount(target string, number uint64) (*os.File, error) {
	f, err := os.OpenFile(target, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("stat %s: %w", target, err), f.Close())
	}
	if st.Dev != number {
		return nil, errors.Join(fmt.Errorf("%w: %s is device %s, not %s", ErrNotMounted, target,
			numberString(st.Dev), numberString(number)), f.Close())
	}
	return f, nil
}

// xfsSize asks a mounted XFS for its size in bytes. The superblock on the disk
// is no answer: it lags behind the log.
func xfsSize(f *os.File) (int64, error) {
	buf := make([]byte, xfsGeometrySize)
	if err := ioctl(f, xfsGeometry, buf); err != nil {
		return 0, fmt.Errorf("ask xfs for its geometry: %w", err)
	}
	size, ok := product(binary.NativeEndian.Uint64(buf[32:]), uint64(binary.NativeEndian.Uint32(buf[0:])))
	if !ok {
		return 0, errors.New("xfs tells a geometry that makes no sense")
	}
	return size, nil
}

// growXFS makes a mounted XFS as large as a device of so many bytes, the share
// of it that inodes may take unchanged.
func growXFS(f *os.File, deviceSize int64) error {
	geometry := make([]byte, xfsGeometrySize)
	if err := ioctl(f, xfsGeometry, geometry); err != nil {
		return fmt.Errorf("ask xfs for its geometry: %w", err)
	}
	block := int64(binary.NativeEndian.Uint32(geometry[0:]))
	if block == 0 {
		return errors.New("xfs tells a geometry that makes no sense")
	}
	wanted := make([]byte, xfsGrowSize)
	binary.NativeEndian.PutUint64(wanted[0:], uint64(deviceSize/block)) // #nosec G115 -- above 0
	copy(wanted[8:12], geometry[28:32])                                 // imaxpct
	if err := ioctl(f, xfsGrow, wanted); err != nil {
		return fmt.Errorf("grow xfs: %w", err)
	}
	return nil
}

// growExt makes a mounted ext filesystem as large as so many blocks.
func growExt(f *os.File, blocks int64) error {
	wanted := make([]byte, 8)
	binary.NativeEndian.PutUint64(wanted, uint64(blocks)) // #nosec G115 -- above 0
	if err := ioctl(f, extGrow, wanted); err != nil {
		return fmt.Errorf("grow ext: %w", err)
	}
	return nil
}

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
func btrfsSize(f *os.File) (size int64, id uint64, err error) {
	identity, err := btrfsIdentify(f)
	if err != nil {
		return 0, 0, err
	}
	if identity.devices != 1 {
		return 0, 0, fmt.Errorf("%w: btrfs on %d disks", ErrUnsupported, identity.devices)
	}
	for id := uint64(1); id <= min(identity.highest, 1<<10); id++ {
		buf := make([]byte, btrfsDevSize)
		binary.NativeEndian.PutUint64(buf, id)
		err := ioctl(f, btrfsDevInfo, buf)
		if errors.Is(err, unix.ENODEV) {
			continue // an id that was given up
		}
		if err != nil {
			return 0, 0, fmt.Errorf("ask btrfs for its size: %w", err)
		}
		// After the id: 16 bytes of UUID and 8 of bytes in use.
		size, ok := product(binary.NativeEndian.Uint64(buf[32:]), 1)
		if !ok {
			return 0, 0, errors.New("btrfs tells a size that makes no sense")
		}
		return size, id, nil
	}
	return 0, 0, errors.New("btrfs doesn't name its disk")
}
