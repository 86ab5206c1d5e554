package filesystem

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// attributes are what belongs to a single mount rather than to the filesystem,
// as mount_setattr(2) has them: what to set, and what to clear before. What is
// in neither stays as it is.
type attributes struct{ set, clear uint64 }

// add notes one option of mount(8); false when it isn't one of a single mount.
func (a *attributes) add(option string) bool {
	set, known := map[string]uint64{
		"ro": unix.MOUNT_ATTR_RDONLY, "nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV,
		"noexec": unix.MOUNT_ATTR_NOEXEC, "nosymfollow": unix.MOUNT_ATTR_NOSYMFOLLOW,
		"nodiratime": unix.MOUNT_ATTR_NODIRATIME,
	}[option]
	if known {
		a.set, a.clear = a.set|set, a.clear&^set
		return true
	}
	unset, known := map[string]uint64{
		"suid": unix.MOUNT_ATTR_NOSUID, "dev": unix.MOUNT_ATTR_NODEV, "exec": unix.MOUNT_ATTR_NOEXEC,
		"symfollow": unix.MOUNT_ATTR_NOSYMFOLLOW, "diratime": unix.MOUNT_ATTR_NODIRATIME,
	}[option]
	if known {
		a.set, a.clear = a.set&^unset, a.clear|unset
		return true
	}
	// How times of access are kept is one of several, not a bit.
	kept, known := map[string]uint64{
		"relatime": unix.MOUNT_ATTR_RELATIME, "noatime": unix.MOUNT_ATTR_NOATIME, "strictatime": unix.MOUNT_ATTR_STRICTATIME,
		"atime": unix.MOUNT_ATTR_RELATIME, "norelatime": unix.MOUNT_ATTR_STRICTATIME, "nostrictatime": unix.MOUNT_ATTR_RELATIME,
	}[option]
	if known {
		a.set = a.set&^unix.MOUNT_ATTR__ATIME | kept
		a.clear |= unix.MOUNT_ATTR__ATIME
	}
	return known
}

// bindAttributes returns the attributes of a bind. Options that belong to the
// filesystem were given when it was mounted.
func bindAttributes(readOnly bool, options []string) attributes {
	var a attributes
	for _, list := range options {
		for o := range strings.SplitSeq(list, ",") {
			if o != "ro" {
				a.add(o)
			}
		}
	}
	if readOnly {
		a.add("ro")
	}
	return a
}

// bindAtOnce binds source at place in such a way that the mount is never there
// without its attributes, from Linux 5.12 on.
func bindAtOnce(source, place string, a attributes) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	// What was not moved vanishes with its descriptor.
	defer func() { _ = unix.Close(tree) }()
	if a != (attributes{}) {
		attr := unix.MountAttr{Attr_set: a.set, Attr_clr: a.clear}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return os.NewSyscallError("mount_setattr", err)
		}
	}
	return os.NewSyscallError("move_mount", unix.MoveMount(tree, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// bindInSteps is bindAtOnce for older kernels: it binds, and then changes the
// bind. A process that ends in between leaves one with the attributes of source.
func bindInSteps(source, place string, a attributes) error {
	if err := unix.Mount(source, place, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if a == (attributes{}) {
		return nil
	}
	return remount(place, a)
}

// remount changes the attributes of the mount at place, where mount_setattr(2)
// is missing: all of them are given anew.
func remount(place string, a attributes) error {
	infos, err := readMounts()
	if err != nil {
		return err
	}
	info := topmost(infos, place)
	if info == nil {
		return fmt.Errorf("%w: it has gone again", ErrNotMounted)
	}
	now := attributes{}
	for o := range strings.SplitSeq(info.Options, ",") {
		now.add(o)
	}
	now.set, now.clear = now.set&^a.clear|a.set, now.clear|a.clear
	if err := unix.Mount("", place, "", unix.MS_REMOUNT|unix.MS_BIND|now.flags(), ""); err != nil {
		return fmt.Errorf("remount: %w", err)
	}
	return nil
}

// flags translates attributes to the flags of mount(2).
func (a attributes) flags() uintptr {
	var flags uintptr
	for attribute, flag := range map[uint64]uintptr{
		unix.MOUNT_ATTR_RDONLY: unix.MS_RDONLY, unix.MOUNT_ATTR_NOSUID: unix.MS_NOSUID, unix.MOUNT_ATTR_NODEV: unix.MS_NODEV,
		unix.MOUNT_ATTR_NOEXEC: unix.MS_NOEXEC, unix.MOUNT_ATTR_NOSYMFOLLOW: unix.MS_NOSYMFOLLOW,
		unix.MOUNT_ATTR_NODIRATIME: unix.MS_NODIRATIME,
		unix.MOUNT_ATTR_NOATIME:    unix.MS_NOATIME, unix.MOUNT_ATTR_STRICTATIME: unix.MS_STRICTATIME,
	} {
		if a.set&attribute != 0 {
			flags |= flag
		}
	}
	// The value of relatime is 0; a mount that names no such option keeps its own.
	if a.clear&unix.MOUNT_ATTR__ATIME != 0 && a.set&unix.MOUNT_ATTR__ATIME == unix.MOUNT_ATTR_RELATIME {
		flags |= unix.MS_RELATIME
	}
	return flags
}

// tooOld tells whether the kernel, or what filters its system calls, doesn't
// know one that bindAtOnce needs. Filters of before these calls answer EPERM.
func tooOld(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
}

// withoutAttribute tells whether a kernel that knows fsmount(2) doesn't know an
// attribute: nosymfollow is one from Linux 5.14 on. mount(8) then says so, or does it.
func withoutAttribute(err error, a attributes) bool {
	return errors.Is(err, unix.EINVAL) && a.set&unix.MOUNT_ATTR_NOSYMFOLLOW != 0
}
