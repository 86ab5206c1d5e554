package filesystem

import (
	"slices"

	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// The filesystems that this package handles, by the names that blkid, mount and
// mkfs share.
const (
	ext2  = "ext2"
	ext3  = "ext3"
	ext4  = "ext4"
	xfs   = "xfs"
	btrfs = "btrfs"
)

// kind is all that this package knows of a filesystem by its name, but for how its
// superblock is read (superblock.go) and how a mounted one grows (grow.go), which
// go by what is on the disk. Which options its mkfs takes package mkfs knows.
type kind struct {
	// ext: the superblock and e2fsck are those of ext2, ext3 and ext4. Growth in use
	// needs CAP_SYS_RESOURCE, and unmounted ones grow too.
	ext bool
	// smallest is how many bytes a device must have. The tools find that out too, but
	// some of them only after they have begun to write.
	smallest int64
	// arguments are given to mkfs whatever was asked for.
	arguments []string
	// defaults adds the options that count unless others were asked for. The device
	// has that size.
	defaults func(asked mkfs.List, size int64) mkfs.List
	// features are turned on by newer tools and refused by older kernels.
	features []feature
	// mount are the options to mount with, and mountReadOnly those besides that keep
	// the journal from being replayed.
	mount, mountReadOnly []string
}

// kindOf returns the kind with that name; false when this package doesn't handle it.
func kindOf(fsType string) (kind, bool) {
	k, ok := map[string]kind{
		ext2: {ext: true, smallest: 2 << 20, defaults: extDefaults},
		ext3: {ext: true, smallest: 2 << 20, defaults: extDefaults, mountReadOnly: []string{"noload"}},
		ext4: {
			ext: true, smallest: 2 << 20, defaults: ext4Defaults, mountReadOnly: []string{"noload"},
			features: []feature{{"-O", "^orphan_file", version{1, 47}, version{5, 15}}},
		},
		xfs: {
			smallest:  300 << 20, // what mkfs.xfs asks for since 5.19
			arguments: []string{"-K"}, defaults: xfsDefaults,
			// A clone or a restored snapshot on the same node has its origin's UUID.
			mount: []string{"nouuid"}, mountReadOnly: []string{"norecovery"},
			features: []feature{
				{"-m", "bigtime=0", version{5, 11}, version{5, 10}},
				{"-m", "inobtcount=0", version{5, 11}, version{5, 10}},
				{"-i", "nrext64=0", version{6, 0}, version{5, 19}},
				{"-i", "exchange=0", version{6, 10}, version{6, 10}},
				{"-n", "parent=0", version{6, 10}, version{6, 10}},
				{"-m", "metadir=0", version{6, 13}, version{6, 13}},
			},
		},
		btrfs: {
			smallest:      109 << 20, // with the usual profiles: 16 MiB nodes, twice for metadata
			arguments:     []string{"-K"},
			defaults:      func(asked mkfs.List, _ int64) mkfs.List { return asked },
			mountReadOnly: []string{"rescue=nologreplay"},
		},
	}[fsType]
	return k, ok
}

// Supported tells whether fsType can be formatted, mounted and grown: ext2,
// ext3, ext4, xfs and btrfs.
func Supported(fsType string) bool {
	_, ok := kindOf(fsType)
	return ok
}

func isExt(fsType string) bool {
	k, _ := kindOf(fsType)
	return k.ext
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

// mountOptions adds what a filesystem must always be mounted with.
func mountOptions(fsType string, options []string) []string {
	k, _ := kindOf(fsType)
	wanted := k.mount
	if wantsReadOnly(options) {
		wanted = slices.Concat(k.mount, k.mountReadOnly)
	}
	options = slices.Clone(options)
	for _, o := range wanted {
		if !slices.Contains(options, o) {
			options = append(options, o)
		}
	}
	return options
}
