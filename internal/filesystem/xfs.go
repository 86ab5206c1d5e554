package filesystem

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

const xfs = "xfs"

func xfsType() *Type {
	return &Type{
		Name: xfs, family: xfs,
		dialect:   mkfs.XFS,
		smallest:  300 << 20, // what mkfs.xfs asks for since 5.19
		arguments: []string{"-K"}, defaults: xfsDefaults,
		features: []feature{
			{"-m", "bigtime=0", version{5, 11}, version{5, 10}},
			{"-m", "inobtcount=0", version{5, 11}, version{5, 10}},
			{"-i", "nrext64=0", version{6, 0}, version{5, 19}},
			{"-i", "exchange=0", version{6, 10}, version{6, 10}},
			{"-n", "parent=0", version{6, 10}, version{6, 10}},
			{"-m", "metadir=0", version{6, 13}, version{6, 13}},
		},
		dryRun: "-N", rehearsed: mkfs.Option{Name: "-l", Value: "size=64m"},
		parse: parseXFS, copies: xfsCopies,
		isCopy: func(b []byte) bool { return bytes.HasPrefix(b, []byte("XFSB")) },
		// A clone or a restored snapshot on the same node has its origin's UUID.
		mount: []string{"nouuid"}, mountReadOnly: []string{"norecovery"},
		shutSilently: true, capability: -1, growMounted: growXFSMounted, sizeMounted: xfsSize,
	}
}

// xfsDefaults makes the groups that mkfs.xfs makes by itself on one plain disk. With
// stripes it would make groups whose beginnings no proof of blankness knows, and
// newer ones as many as the node has processors.
func xfsDefaults(asked mkfs.List, size int64) mkfs.List {
	switch {
	case size < 4<<40:
		return asked.DefaultSetting("-d", "agcount=4")
	case asked.Sets("-d", "agcount"):
		return asked
	}
	return asked.DefaultSetting("-d", "agsize=1t")
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
		devices: 1, size: size, block: int64(block), slack: int64(max(minGroup, uint64(be.Uint32(b[stripe:])))) * int64(block),
	}, true
}

// xfsCopies returns where the allocation groups of an XFS begin that was made with so
// many of them as mkfs.xfs likes, or with any number up to 64.
func xfsCopies(size int64, anyOptions bool) []int64 {
	const (
		block   = 4 << 10
		largest = 1 << 40 // bytes of a group, of more than 4 TiB
		most    = 64
	)
	var places []int64
	for groups := int64(2); groups <= most; groups++ {
		liked := groups <= 32 && groups&(groups-1) == 0
		if !liked && !anyOptions {
			continue
		}
		group := (size/block + groups - 1) / groups
		for n := int64(1); n < groups; n++ {
			places = append(places, n*group*block)
		}
	}
	for at := int64(largest); at < size; at += largest {
		places = append(places, at)
	}
	return places
}

// Requests of XFS: the size of what they pass, and the request.
const (
	xfsGeometrySize = 112 // struct xfs_fsop_geom_v1
	xfsGrowSize     = 16  // struct xfs_growfs_data
	xfsGeometry     = ioctlRead | xfsGeometrySize<<16 | 'X'<<8 | 100
	xfsGrow         = ioctlWrite | xfsGrowSize<<16 | 'X'<<8 | 110
)

// xfsSize asks a mounted XFS for its size in bytes. The superblock on the disk
// is no answer: it lags behind the log.
func xfsSize(root *os.File, s *superblock) error {
	buf := make([]byte, xfsGeometrySize)
	if err := ioctl(root, xfsGeometry, buf); err != nil {
		return fmt.Errorf("ask xfs for its geometry: %w", err)
	}
	size, ok := product(binary.NativeEndian.Uint64(buf[32:]), uint64(binary.NativeEndian.Uint32(buf[0:])))
	if !ok {
		return errors.New("xfs tells a geometry that makes no sense")
	}
	s.size = size
	return nil
}

// growXFSMounted asks the kernel itself, which is all that xfs_growfs does. The share
// of the filesystem that inodes may take stays as it is.
func growXFSMounted(_ context.Context, _ *FS, m MountPoint, _ superblock, deviceSize int64) error {
	root, err := openMount(m.Target, m.Number)
	if err != nil {
		return err
	}
	return errors.Join(growXFS(root, deviceSize), root.Close())
}

// growXFS makes a mounted XFS as large as a device of so many bytes.
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
