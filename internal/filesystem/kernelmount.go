package filesystem

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// plainOptions sorts mount options into those of the mount and those of the
// filesystem. It returns false when there is one among them that may mean
// something to mount(8), or needs it to be read: then that has to mount.
//
// SELinux labels are given to a kernel that has SELinux, and otherwise left out,
// as mount(8) does; but in a container that doesn't see the kernel's selinuxfs,
// mount(8) always leaves them out.
func plainOptions(options []string, selinux bool) (mount attributes, filesystem []string, ok bool) {
	known := []string{"nouuid", "noload", "norecovery", "rescue=nologreplay", "discard", "nodiscard"}
	for _, list := range options {
		if label, is := selinuxLabel(list); is {
			if selinux {
				filesystem = append(filesystem, label)
			}
			continue
		}
		for o := range strings.SplitSeq(list, ",") {
			switch {
			case o == "ro", o == "rw":
			case mount.add(o):
			case slices.Contains(known, o):
				filesystem = append(filesystem, o)
			default:
				return attributes{}, nil, false
			}
		}
	}
	if wantsReadOnly(options) {
		mount.add("ro")
		filesystem = append(filesystem, "ro")
	}
	return mount, filesystem, true
}

// selinuxLabel reads an option that is an SELinux label, and returns it as the
// kernel wants it, without quotes. One that mount(8) has to look up is none.
func selinuxLabel(option string) (string, bool) {
	name, value, _ := strings.Cut(option, "=")
	switch name {
	case "context", "fscontext", "defcontext", "rootcontext":
		value = strings.Trim(value, `"`)
		return name + "=" + value, value != "" && !strings.HasPrefix(value, "@") && !strings.Contains(value, `"`)
	}
	return "", false
}

// hasSELinux tells whether the kernel enforces, or logs, what SELinux says.
func hasSELinux() bool {
	known, err := os.ReadFile("/proc/filesystems")
	return err == nil && slices.Contains(strings.Fields(string(known)), "selinuxfs")
}

// kernelMount mounts a device without mount(8), whose start takes as long as
// the mount of an empty filesystem. Linux can do it from 5.2 on, see tooOld.
func kernelMount(source, place, fsType string, mount attributes, options []string) error {
	fs, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err = configure(fs, source, options); err == nil {
		err = attach(fs, place, mount)
	}
	if said := complaint(fs); err != nil && said != "" {
		err = fmt.Errorf("%w: the kernel says: %s", err, said)
	}
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// configure gives a filesystem its device and its options, and starts it.
func configure(fs int, source string, options []string) error {
	if err := unix.FsconfigSetString(fs, "source", source); err != nil {
		return os.NewSyscallError("fsconfig source", err)
	}
	for _, o := range options {
		key, value, isString := strings.Cut(o, "=")
		var err error
		if isString {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return os.NewSyscallError("fsconfig "+o, err)
		}
	}
	return os.NewSyscallError("fsconfig create", unix.FsconfigCreate(fs))
}

// attach makes the mount of a filesystem and puts it at place.
func attach(fs int, place string, a attributes) error {
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(a.set)) // #nosec G115 -- attributes are small
	if err != nil {
		return os.NewSyscallError("fsmount", err)
	}
	defer func() { _ = unix.Close(mount) }()
	return os.NewSyscallError("move_mount", unix.MoveMount(mount, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// complaint returns what the kernel has to say about a mount that failed.
func complaint(fs int) string {
	var said []string
	for buf := make([]byte, 4<<10); ; {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			return words(strings.Join(said, "; "))
		}
		said = append(said, string(buf[:n]))
	}
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
