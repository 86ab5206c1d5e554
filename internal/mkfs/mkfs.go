// Package mkfs says which options of mkfs a volume context may ask for. It reads
// them as mkfs itself does, in every spelling, and refuses what names other
// devices or files, what mkfs would refuse whatever the size of the device, and
// what lays a filesystem out in such a way that a later proof of blankness could
// miss it when its head is lost (see package filesystem).
//
// It runs nothing and looks at no device: the controller asks it before a volume
// is made, and the node before a filesystem is.
package mkfs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The keys of a volume context that shape the filesystem made on a blank volume.
// A filesystem that exists is used as it is.
const (
	// OptionsKey: options of mkfs, separated by white space, as in
	// "-E stride=16,stripe_width=64 -m 1".
	OptionsKey = "cinder.csi.openstack.org/mkfs-options"
	// ReferenceOptionsKey is OptionsKey as cloud-provider-openstack's plugin writes it.
	ReferenceOptionsKey = "mkfs-options"
	// BlockSizeKey: bytes of a block, a power of two from 1024 to 4096; ext and XFS.
	BlockSizeKey = "cinder.csi.openstack.org/blockSize"
	// InodeSizeKey: bytes of an inode, a power of two from 256 to 2048; ext and XFS.
	InodeSizeKey = "cinder.csi.openstack.org/inodeSize"
	// BytesPerInodeKey: one inode is made for so many bytes, 1024 to 67108864; ext.
	BytesPerInodeKey = "cinder.csi.openstack.org/bytesPerInode"
)

// ErrOptions means that an option isn't one that may be given to mkfs, or that its
// value isn't. The error says why.
var ErrOptions = errors.New("option of mkfs refused")

// Options returns the arguments for mkfs that a volume context asks for, checked
// and in one spelling. They are none when it asks for nothing. It fails with
// ErrOptions for a filesystem that this package doesn't know, too.
func Options(fsType string, volumeContext map[string]string) ([]string, error) {
	var words []string
	for _, s := range sizes() {
		value, asked := volumeContext[s.key]
		if !asked {
			continue
		}
		option, err := s.option(fsType, value)
		if err != nil {
			return nil, err
		}
		words = append(words, option...)
	}
	options, ours := volumeContext[OptionsKey]
	reference, theirs := volumeContext[ReferenceOptionsKey]
	if ours && theirs && options != reference {
		return nil, fmt.Errorf("%w: %s is %q, but %s is %q", ErrOptions, OptionsKey, options, ReferenceOptionsKey, reference)
	}
	if !ours {
		options = reference
	}
	list, err := Parse(fsType, append(words, strings.Fields(options)...))
	return list.Arguments(), err
}

// size is a key of the volume context whose value is a number of bytes.
type size struct {
	key      string
	allowed  check
	ext, xfs string // the option of mkfs, empty where there is none
	prefix   string // of XFS's value
}

func sizes() []size {
	return []size{
		{key: BlockSizeKey, allowed: power(1<<10, largestBlock), ext: "-b", xfs: "-b", prefix: "size="},
		{key: InodeSizeKey, allowed: power(256, 2<<10), ext: "-I", xfs: "-i", prefix: "size="},
		{key: BytesPerInodeKey, allowed: number(1<<10, 64<<20), ext: "-i"},
	}
}

// option translates a value for one kind of filesystem.
func (s size) option(fsType, value string) ([]string, error) {
	name, prefix := "", ""
	switch fsType {
	case "ext2", "ext3", "ext4":
		name = s.ext
	case "xfs":
		name, prefix = s.xfs, s.prefix
	}
	if name == "" {
		return nil, fmt.Errorf("%w: %s can't be set for filesystem %q", ErrOptions, s.key, fsType)
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is %q: it must be a number of bytes", ErrOptions, s.key, value)
	}
	value = strconv.FormatUint(n, 10)
	if err := s.allowed(value); err != nil {
		return nil, fmt.Errorf("%w: %s is %q: %w", ErrOptions, s.key, value, err)
	}
	return []string{name, prefix + value}, nil
}

// Option is one option of mkfs.
type Option struct {
	// Name as in -E, the shortest that mkfs knows.
	Name string
	// Value is empty for an option that has none.
	Value string
}

// List is options of mkfs, each name once.
type List []Option

// Arguments returns the options as arguments of mkfs.
func (l List) Arguments() []string {
	var arguments []string
	for _, o := range l {
		arguments = append(arguments, o.Name)
		if o.Value != "" {
			arguments = append(arguments, o.Value)
		}
	}
	return arguments
}

// Default adds an option unless it was asked for.
func (l List) Default(name, value string) List {
	if l.Has(name) {
		return l
	}
	return append(List{{name, value}}, l...)
}

// DefaultSetting adds a setting to the option with that name, whose value is a
// list, unless the list turns it on or off, or sets it, already.
func (l List) DefaultSetting(name, setting string) List {
	at := slices.IndexFunc(l, func(o Option) bool { return o.Name == name })
	if at < 0 {
		return append(List{{name, setting}}, l...)
	}
	if l.Sets(name, setting) {
		return l
	}
	l = slices.Clone(l)
	l[at].Value = setting + "," + l[at].Value
	return l
}

// Has tells whether there is an option with that name.
func (l List) Has(name string) bool {
	return slices.ContainsFunc(l, func(o Option) bool { return o.Name == name })
}

// Sets tells whether the option with that name, whose value is a list, says
// anything about a setting: what it is set to, or that it is turned on or off.
func (l List) Sets(name, setting string) bool {
	for _, o := range l {
		if o.Name == name && slices.ContainsFunc(strings.Split(o.Value, ","), func(s string) bool { return subject(s) == subject(setting) }) {
			return true
		}
	}
	return false
}

// subject returns what a setting is about.
func subject(setting string) string {
	key, _, _ := strings.Cut(setting, "=")
	return strings.TrimPrefix(strings.TrimPrefix(key, "^"), "no")
}
