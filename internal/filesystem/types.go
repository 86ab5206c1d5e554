package filesystem

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// Type is a type of filesystem, and all that the driver knows of it. Each is made in a
// file of its own: another one takes such a file, a line in Types, and the programs in
// the image.
type Type struct {
	// Name is what blkid, mount(8), mkfs and StorageClasses call it.
	Name string
	// family is the name of the type that has the same superblock and the same
	// programs, its own if there is none: ext2 and ext3 are of the family ext4.
	family string
	// programs are what is run for it.
	programs []string

	// dialect is what its mkfs can be told.
	dialect func() mkfs.Dialect
	// smallest is how many bytes a device must have. mkfs finds that out too, but
	// some only after they have begun to write.
	smallest int64
	// arguments are given to mkfs whatever was asked for.
	arguments []string
	// defaults adds the options that count unless others were asked for. The device
	// has that size.
	defaults func(asked mkfs.List, size int64) mkfs.List
	// features are turned on by newer tools and refused by older kernels.
	features []feature
	// dryRun has mkfs check its options and write nothing; empty where it can't. Then
	// mkfs writes to memory, with the setting rehearsed, which saves some.
	dryRun    string
	rehearsed mkfs.Option
	// complete tells whether a filesystem that was never mounted is whole; nil where
	// mkfs writes last what the filesystem is recognised by.
	complete func(ctx context.Context, f *FS, path string) (bool, error)

	// superblockAt is the byte of the superblock, which parse reads.
	superblockAt int64
	parse        func([]byte) (superblock, bool)
	// copies are the bytes at which a device of that size may have a copy of the
	// superblock, or other data of a filesystem whose head is lost: by the options that
	// mkfs likes, or by any that it takes. isCopy knows one, by at least superLength
	// bytes.
	copies func(size int64, anyOptions bool) []int64
	isCopy func([]byte) bool

	// repair checks a filesystem that nothing uses and its superblock calls unclean,
	// and repairs what it can; nil where the kernel does all of that.
	repair func(ctx context.Context, f *FS, path string) error
	// mount are the options to mount with, and mountReadOnly those besides that keep
	// the journal from being replayed.
	mount, mountReadOnly []string
	// OwnDiscard: the kernel turns discard on by itself on some disks.
	OwnDiscard bool
	// diskOf returns the number of the disk that a mount is on; nil where mountinfo has it.
	diskOf func(MountPoint) (uint64, error)
	// shutSilently: no option of a mount tells that the kernel has given it up, but EIO
	// of its root directory does.
	shutSilently bool
	// capability is what a process needs to grow it while it is mounted; -1 for none.
	capability int
	// growMounted grows it by way of a mount.
	growMounted func(ctx context.Context, f *FS, m MountPoint, s superblock, deviceSize int64) error
	// sizeMounted asks the kernel for the size, by the root of a mount; nil where the
	// superblock on the device is always up to date.
	sizeMounted func(root *os.File, s *superblock) error
	// growUnmounted grows one that nothing uses; nil where that can't be.
	growUnmounted func(ctx context.Context, f *FS, path string) error
}

// Types returns the types that the driver handles. The first of a family has its name.
func Types() []*Type {
	return []*Type{extType("ext4"), extType("ext3"), extType("ext2"), xfsType(), btrfsType()}
}

// TypeOf returns the type with that name. It fails with ErrUnsupported.
func TypeOf(name string) (*Type, error) {
	var names []string
	for _, t := range Types() {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	return nil, fmt.Errorf("%w: %q is none of %s", ErrUnsupported, name, strings.Join(names, ", "))
}

// families returns one type of each family.
func families() []*Type {
	return slices.DeleteFunc(Types(), func(t *Type) bool { return t.Name != t.family })
}

// alike tells whether two names are of one family, or the same.
func alike(a, b string) bool {
	s, err := TypeOf(a)
	t, terr := TypeOf(b)
	return a == b || err == nil && terr == nil && s.family == t.family
}

// Programs are what this package runs, by the names that are looked for in PATH.
func Programs() []string {
	programs := []string{"blkid", "wipefs", "setsid", "mount"}
	for _, t := range Types() {
		programs = append(programs, "mkfs."+t.Name)
		programs = append(programs, t.programs...)
	}
	slices.Sort(programs)
	return slices.Compact(programs)
}

// MkfsOptions reads the options of mkfs that a volume context asks for. It fails with
// mkfs.ErrOptions.
func (t *Type) MkfsOptions(volumeContext map[string]string) (mkfs.List, error) {
	return t.dialect().Options(volumeContext)
}

// GrowsOnline tells whether this process may grow a mounted filesystem of the type.
func (t *Type) GrowsOnline() bool { return t.capability < 0 || hasCapability(t.capability) }

// hasCapability tells whether this process has a capability, in its effective set.
func hasCapability(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	err := unix.Capget(&header, &sets[0])
	return err == nil && sets[capability/32].Effective>>(capability%32)&1 == 1
}

// mkfsArguments returns the arguments of mkfs, without the device, which has that size.
func (t *Type) mkfsArguments(ctx context.Context, f *FS, asked mkfs.List, size int64) ([]string, error) {
	off, err := t.tooNew(ctx, f)
	if err != nil {
		return nil, err
	}
	for _, o := range off {
		asked = asked.DefaultSetting(o.Name, o.Value)
	}
	return append(append([]string{"-q"}, t.arguments...), t.defaults(asked, size).Arguments()...), nil
}

// feature is one that newer tools turn on by themselves and older kernels
// refuse to mount.
type feature struct {
	section string  // the option of mkfs it belongs to
	off     string  // what turns it off there
	tool    version // mkfs that knows it
	kernel  version // kernel that mounts it
}

// tooNew returns the options that turn off what mkfs would turn on and the
// running kernel couldn't mount.
func (t *Type) tooNew(ctx context.Context, f *FS) (mkfs.List, error) {
	kernel, err := kernelVersion()
	if err != nil {
		return nil, err
	}
	// The newest mkfs that could be: nothing to turn off for it, nothing to ask.
	if newest := (version{1 << 20, 0}); len(t.unmountable(newest, kernel)) == 0 {
		return nil, nil
	}
	output, status, err := f.Tool(ctx, nil, "mkfs."+t.Name, "-V")
	if err != nil {
		return nil, err
	}
	tool, ok := parseVersion(strings.TrimPrefix(output, "mke2fs"))
	if status != 0 || !ok {
		return nil, fmt.Errorf("mkfs.%s -V doesn't tell its version: %s", t.Name, words(output))
	}
	return t.unmountable(tool, kernel), nil
}

// unmountable returns the options of mkfs that turn off what the kernel couldn't mount.
func (t *Type) unmountable(tool, kernel version) (off mkfs.List) {
	for _, f := range t.features {
		if tool.compare(f.tool) >= 0 && kernel.compare(f.kernel) < 0 {
			off = append(off, mkfs.Option{Name: f.section, Value: f.off})
		}
	}
	return off
}

// version is the first numbers of a version.
type version struct{ major, minor int }

func (v version) compare(w version) int {
	return cmp.Or(cmp.Compare(v.major, w.major), cmp.Compare(v.minor, w.minor))
}

// parseVersion reads the first major.minor in a text such as "6.1.0-56-cloud"
// or "mkfs.xfs version 6.1.0".
func parseVersion(s string) (version, bool) {
	start := strings.IndexAny(s, "0123456789")
	if start < 0 {
		return version{}, false
	}
	parts := strings.SplitN(s[start:], ".", 3)
	if len(parts) < 2 {
		return version{}, false
	}
	end := strings.IndexFunc(parts[1], func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		parts[1] = parts[1][:end]
	}
	major, err := strconv.Atoi(parts[0])
	if err != nil {
		return version{}, false
	}
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		return version{}, false
	}
	return version{major, minor}, true
}

// kernelVersion returns the version of the running kernel.
func kernelVersion() (version, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return version{}, fmt.Errorf("uname: %w", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	v, ok := parseVersion(release)
	if !ok {
		return version{}, fmt.Errorf("kernel release %q has no version", release)
	}
	return v, nil
}
