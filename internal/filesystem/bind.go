package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Bind makes source, a directory or a device node, appear at target too, which
// must exist and be of the same sort. Of options only those count that belong
// to a single mount, such as noexec; others belong to the filesystem and were
// given when it was mounted.
//
// What is at target already is left as it is when it is source, and ErrMounted
// when it is something else; the one thing that is mended is a bind that should
// be read-only and isn't (on a kernel where that takes two steps, an earlier
// call ended between them).
//
// A read-only bind of a device node doesn't make the device read-only.
func (f *FS) Bind(ctx context.Context, source, target string, readOnly bool, options []string) error {
	place, err := canonical(target)
	if err != nil {
		return fmt.Errorf("bind %s: %w", source, err)
	}
	what := fmt.Sprintf("bind %s %t %s", source, readOnly, strings.Join(options, ","))
	err = f.jobs.do(ctx, "mount "+place, what, func(context.Context) error {
		return f.bind(source, place, readOnly, options)
	})
	if err != nil {
		return fmt.Errorf("bind %s at %s: %w", source, target, err)
	}
	return nil
}

// bind does the work of Bind.
func (f *FS) bind(source, place string, readOnly bool, options []string) error {
	mounted, there, err := f.Lookup(place)
	if err != nil {
		return err
	}
	if !there {
		info, err := os.Lstat(place)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return errors.New("target is a symlink")
		}
		a := bindAttributes(readOnly, options)
		if err = bindAtOnce(source, place, a); tooOld(err) || withoutAttribute(err, a) {
			err = bindInSteps(source, place, a)
		}
		if err != nil {
			return undo(place, err)
		}
		if err := f.verifyBind(source, place, readOnly); err != nil {
			return undo(place, err)
		}
		return nil
	}
	if err := sameThing(source, place); err != nil {
		return err
	}
	if readOnly && !mounted.ReadOnly {
		a := attributes{set: unix.MOUNT_ATTR_RDONLY}
		err := unix.MountSetattr(unix.AT_FDCWD, place, unix.AT_SYMLINK_NOFOLLOW, &unix.MountAttr{Attr_set: a.set})
		if tooOld(err) {
			err = remount(place, a)
		}
		if err != nil {
			return fmt.Errorf("make it read-only: %w", err)
		}
	}
	return f.verifyBind(source, place, readOnly)
}

// verifyBind returns nil when source is mounted at place, read-only where that
// was asked for.
func (f *FS) verifyBind(source, place string, readOnly bool) error {
	mounted, there, err := f.Lookup(place)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%w: mount(8) said it succeeded", ErrNotMounted)
	}
	if err := sameThing(source, place); err != nil {
		return err
	}
	switch {
	case readOnly && !mounted.ReadOnly:
		return fmt.Errorf("%w: writable, and it should be read-only", ErrMounted)
	case !readOnly && mounted.GivenUp:
		return fmt.Errorf("%w: %s", ErrGivenUp, source)
	case !readOnly && !mounted.Writable():
		return fmt.Errorf("%w: read-only, and it should be writable", ErrMounted)
	}
	return nil
}

// sameThing returns nil when both paths lead to the same file, directory or node.
func sameThing(source, place string) error {
	a, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("source: %w", spent(err))
	}
	b, err := os.Stat(place)
	if err != nil {
		return fmt.Errorf("target: %w", spent(err))
	}
	if !os.SameFile(a, b) {
		return fmt.Errorf("%w: something else than %s", ErrMounted, source)
	}
	return nil
}

// spent wraps the error of a look at the root of a filesystem with ErrGivenUp when
// it is XFS's way of saying so.
func spent(err error) error {
	if errors.Is(err, unix.EIO) {
		return fmt.Errorf("%w: %w", ErrGivenUp, err)
	}
	return err
}

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
