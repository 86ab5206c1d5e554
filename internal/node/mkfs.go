package node

import (
	"cmp"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"
)

// The keys of a volume context that shape the filesystem made on a blank volume.
// They come from the parameters of the StorageClass and count only then: a
// filesystem that exists is used as it is.
const (
	// mkfsOptionsKey: options of mkfs, separated by blanks, as in
	// "-E stride=16,stripe_width=64 -m 1". Only those that shape a filesystem
	// are allowed, see filesystem.Format.
	mkfsOptionsKey = "cinder.csi.openstack.org/mkfs-options"
	// blockSizeKey: bytes of a block, a power of two; ext and xfs.
	blockSizeKey = "cinder.csi.openstack.org/blockSize"
	// inodeSizeKey: bytes of an inode, a power of two; ext and xfs.
	inodeSizeKey = "cinder.csi.openstack.org/inodeSize"
	// bytesPerInodeKey: one inode is made for so many bytes; ext only.
	bytesPerInodeKey = "cinder.csi.openstack.org/bytesPerInode"
)

// sizing is a key of the volume context whose value is a number of bytes.
type sizing struct {
	key        string
	min, max   uint64
	powerOfTwo bool
	ext, xfs   string // the option of mkfs, empty where there is none
	prefix     string // of xfs's value
}

func sizings() []sizing {
	// A filesystem with larger blocks than the kernel's pages can't be mounted
	// but by the newest kernels.
	page := uint64(os.Getpagesize()) // #nosec G115 -- above 0
	return []sizing{
		{key: blockSizeKey, min: 1 << 10, max: page, powerOfTwo: true, ext: "-b", xfs: "-b", prefix: "size="},
		{key: inodeSizeKey, min: 256, max: 2 << 10, powerOfTwo: true, ext: "-I", xfs: "-i", prefix: "size="},
		{key: bytesPerInodeKey, min: 1 << 10, max: 64 << 20, ext: "-i"},
	}
}

// mkfsOptions returns the options of mkfs that a volume context asks for.
func mkfsOptions(volumeContext map[string]string, fsType string) ([]string, error) {
	var options []string
	for _, s := range sizings() {
		value, ok := volumeContext[s.key]
		if !ok {
			continue
		}
		option, err := s.option(value, fsType)
		if err != nil {
			return nil, err
		}
		options = append(options, option...)
	}
	return append(options, strings.Fields(volumeContext[mkfsOptionsKey])...), nil
}

// option translates a value for one kind of filesystem.
func (s sizing) option(value, fsType string) ([]string, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil || n < s.min || n > s.max || s.powerOfTwo && bits.OnesCount64(n) != 1 {
		kind := "number"
		if s.powerOfTwo {
			kind = "power of two"
		}
		return nil, fmt.Errorf("%w: %s is %q: it must be a %s from %d to %d", errInvalid, s.key, value, kind, s.min, s.max)
	}
	name, prefix := "", ""
	switch fsType {
	case "ext2", "ext3", "ext4":
		name = s.ext
	case "xfs":
		name, prefix = s.xfs, s.prefix
	}
	if name == "" {
		return nil, fmt.Errorf("%w: %s can't be set for %s", errInvalid, s.key, cmp.Or(fsType, "this filesystem"))
	}
	return []string{name, prefix + strconv.FormatUint(n, 10)}, nil
}
