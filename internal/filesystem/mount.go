package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// mount(8), by way of mount-utils, mounts what takes its knowledge, and whatever a kernel
// is too old for. The kernel's own calls do what it can't: a bind that is never there
// without its flags, and SELinux labels in a container that doesn't see the kernel's
// selinuxfs. They also save the time that mount(8) takes to start, which is as long as
// the mount of an empty filesystem takes.

// Mount mounts the device at target, an existing directory, and proves that it
// has done so. When the very device is mounted there already, read-only or not
// as asked, nothing is done; anything else there is ErrMounted.
//
// XFS is mounted with nouuid, since a clone or a restored snapshot on the same
// node carries its origin's UUID. With the option ro no journal is replayed: what
// was promised not to be written to isn't written to. A read-only device that
// isn't asked to be mounted so is ErrReadOnly.
//
// When ctx ends first, the mount goes on; a later call waits for it.
func (f *FS) Mount(ctx context.Context, path, target string, t *Type, options []string) error {
	mountpoint, err := mountTarget(target)
	if err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	d, err := openDevice(path)
	if err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	what := "mount " + path + " " + t.Name + " " + strings.Join(options, ",")
	err = f.jobs.doHolding(ctx, "mount "+mountpoint, what, d.close, func(detached context.Context) (err error) {
		defer f.seen.kernel(detached, "mount", t.Name)(&err)
		return f.whenFree(ctx, d.number, func() error { return f.mount(path, d, mountpoint, t, options) })
	})
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", path, target, err)
	}
	return nil
}

// mountTarget returns the canonical path of an existing directory.
func mountTarget(target string) (string, error) {
	mountpoint, err := canonical(target)
	if err != nil {
		return "", err
	}
	info, err := os.Lstat(mountpoint)
	if err != nil {
		return "", fmt.Errorf("target: %w", asGivenUp(err))
	}
	if !info.IsDir() {
		return "", fmt.Errorf("target %s is not a directory", target)
	}
	return mountpoint, nil
}

// mount does the work of Mount.
func (f *FS) mount(path string, d *handle, mountpoint string, t *Type, options []string) error {
	readOnly := wantsReadOnly(options)
	if d.readOnly && !readOnly {
		return fmt.Errorf("device is %w", ErrReadOnly)
	}
	mounted, there, err := f.Lookup(mountpoint)
	if err != nil {
		return err
	}
	if there {
		return sameMount(mounted, d.number, readOnly)
	}
	if err := f.mountFilesystem(path, mountpoint, t, t.mountOptions(options)); err != nil {
		return err
	}
	mounted, there, err = f.Lookup(mountpoint)
	if err == nil && !there {
		err = fmt.Errorf("%w, though mount(8) reported success", ErrNotMounted)
	}
	if err == nil {
		err = sameMount(mounted, d.number, readOnly)
	}
	if err != nil {
		return undo(mountpoint, err)
	}
	return nil
}

// mountFilesystem asks the kernel to mount, or mount(8) where it has a part in it.
func (f *FS) mountFilesystem(source, mountpoint string, t *Type, options []string) error {
	if mount, plain, ok := t.plainOptions(options, hasSELinux()); ok {
		err := kernelMount(source, mountpoint, t.Name, mount, plain)
		if !tooOld(err) && !withoutAttribute(err, mount) {
			return err
		}
	}
	if err := f.mounter.Mount(source, mountpoint, t.Name, options); err != nil {
		return markBusy(err, err.Error())
	}
	return nil
}

// sameMount returns nil when m is a mount of a whole filesystem on that disk,
// read-only or not as asked.
func sameMount(m MountPoint, number uint64, readOnly bool) error {
	switch {
	case m.Number != number:
		return fmt.Errorf("%w: device %s instead of %s", ErrMounted, blockdev.FormatNumber(m.Number), blockdev.FormatNumber(number))
	case m.Root != "/":
		return fmt.Errorf("%w: the directory %s of the device instead of its root", ErrMounted, m.Root)
	case m.GivenUp:
		return fmt.Errorf("%w: %s", ErrGivenUp, m.Target)
	case (m.ReadOnly || m.FilesystemReadOnly) && !readOnly:
		return fmt.Errorf("%w: read-only instead of writable", ErrMounted)
	case !m.ReadOnly && readOnly:
		return fmt.Errorf("%w: writable instead of read-only", ErrMounted)
	}
	return nil
}

// mountOptions adds what a filesystem must always be mounted with.
func (t *Type) mountOptions(options []string) []string {
	wanted := t.mount
	if wantsReadOnly(options) {
		wanted = slices.Concat(t.mount, t.mountReadOnly)
	}
	options = slices.Clone(options)
	for _, o := range wanted {
		if !slices.Contains(options, o) {
			options = append(options, o)
		}
	}
	return options
}

// wantsReadOnly tells whether the last of ro and rw is ro.
func wantsReadOnly(options []string) bool {
	readOnly := false
	for _, list := range options {
		for _, o := range strings.Split(list, ",") {
			switch o {
			case "ro":
				readOnly = true
			case "rw":
				readOnly = false
			}
		}
	}
	return readOnly
}

// plainOptions sorts mount options into those of the mount and those of the
// filesystem. It returns false when there is one among them that may mean
// something to mount(8), or needs it to be read: then that has to mount.
//
// SELinux labels are given to a kernel that has SELinux, and otherwise left out,
// as mount(8) does; but in a container that doesn't see the kernel's selinuxfs,
// mount(8) always leaves them out.
func (t *Type) plainOptions(options []string, selinux bool) (mount attributes, filesystem []string, ok bool) {
	known := slices.Concat(t.mount, t.mountReadOnly, []string{"discard", "nodiscard"})
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
func kernelMount(source, mountpoint, fsType string, mount attributes, options []string) error {
	fs, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err = configure(fs, source, options); err == nil {
		err = attach(fs, mountpoint, mount)
	}
	if output := kernelMessages(fs); err != nil && output != "" {
		err = fmt.Errorf("%w: the kernel says: %s", err, output)
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

// attach makes the mount of a filesystem and puts it at mountpoint.
func attach(fs int, mountpoint string, a attributes) error {
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(a.set)) // #nosec G115 -- attributes are small
	if err != nil {
		return os.NewSyscallError("fsmount", err)
	}
	defer func() { _ = unix.Close(mount) }()
	return os.NewSyscallError("move_mount", unix.MoveMount(mount, "", unix.AT_FDCWD, mountpoint, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// kernelMessages returns what the kernel has to say about a mount that failed.
func kernelMessages(fs int) string {
	var output []string
	for buf := make([]byte, 4<<10); ; {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			return words(strings.Join(output, "; "))
		}
		output = append(output, string(buf[:n]))
	}
}

// Bind makes source, a directory or a device node, appear at target too, which
// must exist and be of the same sort. Of options only those count that belong
// to a single mount, such as noexec; others belong to the filesystem and were
// given when it was mounted.
//
// What is at target already is left as it is when it is source, and ErrMounted
// when it is something else. A bind that should be read-only and isn't is made anew: on a
// kernel where that takes two steps, an earlier call ended between them.
//
// A read-only bind of a device node doesn't make the device read-only.
func (f *FS) Bind(ctx context.Context, source, target string, readOnly bool, options []string) error {
	mountpoint, err := canonical(target)
	if err != nil {
		return fmt.Errorf("bind %s: %w", source, err)
	}
	what := fmt.Sprintf("bind %s %t %s", source, readOnly, strings.Join(options, ","))
	err = f.jobs.do(ctx, "mount "+mountpoint, what, func(detached context.Context) (err error) {
		defer f.seen.kernel(detached, "bind", "")(&err)
		return f.bind(source, mountpoint, readOnly, options)
	})
	if err != nil {
		return fmt.Errorf("bind %s at %s: %w", source, target, err)
	}
	return nil
}

// bind does the work of Bind.
func (f *FS) bind(source, mountpoint string, readOnly bool, options []string) error {
	mounted, there, err := f.Lookup(mountpoint)
	if err != nil {
		return err
	}
	if there {
		if err := sameThing(source, mountpoint); err != nil {
			return err
		}
		if mounted.ReadOnly || !readOnly {
			return f.verifyBind(source, mountpoint, readOnly)
		}
		if err := umount(mountpoint); err != nil {
			return fmt.Errorf("make it read-only: %w", err)
		}
	}
	info, err := os.Lstat(mountpoint)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if info.Mode()&os.ModeSymlink != 0 {
		return errors.New("target is a symlink")
	}
	a, options := bindAttributes(readOnly, options)
	if err = kernelBind(source, mountpoint, a); tooOld(err) || withoutAttribute(err, a) {
		err = f.bindInSteps(source, mountpoint, options)
	}
	if err == nil {
		err = f.verifyBind(source, mountpoint, readOnly)
	}
	if err != nil {
		return undo(mountpoint, err)
	}
	return nil
}

// bindInSteps has mount(8) bind, and then change the bind. A process that ends in
// between leaves one with the flags of the mount that source is on. These also stay where
// options would clear them: the same are given to that mount.
func (f *FS) bindInSteps(source, mountpoint string, options []string) error {
	if err := f.mounter.Mount(source, mountpoint, "", append([]string{"bind"}, options...)); err != nil {
		return markBusy(err, err.Error())
	}
	return nil
}

// verifyBind returns nil when source is mounted at mountpoint, read-only where that
// was asked for.
func (f *FS) verifyBind(source, mountpoint string, readOnly bool) error {
	mounted, there, err := f.Lookup(mountpoint)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%w, though mount(8) reported success", ErrNotMounted)
	}
	if err := sameThing(source, mountpoint); err != nil {
		return err
	}
	switch {
	case readOnly && !mounted.ReadOnly:
		return fmt.Errorf("%w: writable instead of read-only", ErrMounted)
	case !readOnly && mounted.GivenUp:
		return fmt.Errorf("%w: %s", ErrGivenUp, source)
	case !readOnly && !mounted.Writable():
		return fmt.Errorf("%w: read-only instead of writable", ErrMounted)
	}
	return nil
}

// sameThing returns nil when both paths lead to the same file, directory or node.
func sameThing(source, mountpoint string) error {
	a, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("source: %w", asGivenUp(err))
	}
	b, err := os.Stat(mountpoint)
	if err != nil {
		return fmt.Errorf("target: %w", asGivenUp(err))
	}
	if !os.SameFile(a, b) {
		return fmt.Errorf("%w: it is not %s", ErrMounted, source)
	}
	return nil
}

// asGivenUp wraps the error of a look at the root of a filesystem with ErrGivenUp when
// it is XFS's way of saying so.
func asGivenUp(err error) error {
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
	// How times of access are kept is one of several, not a bit.
	const atime = unix.MOUNT_ATTR__ATIME
	change, known := map[string]attributes{
		"ro":     {set: unix.MOUNT_ATTR_RDONLY},
		"nosuid": {set: unix.MOUNT_ATTR_NOSUID}, "suid": {clear: unix.MOUNT_ATTR_NOSUID},
		"nodev": {set: unix.MOUNT_ATTR_NODEV}, "dev": {clear: unix.MOUNT_ATTR_NODEV},
		"noexec": {set: unix.MOUNT_ATTR_NOEXEC}, "exec": {clear: unix.MOUNT_ATTR_NOEXEC},
		"nosymfollow": {set: unix.MOUNT_ATTR_NOSYMFOLLOW}, "symfollow": {clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
		"nodiratime": {set: unix.MOUNT_ATTR_NODIRATIME}, "diratime": {clear: unix.MOUNT_ATTR_NODIRATIME},
		"noatime": {unix.MOUNT_ATTR_NOATIME, atime}, "atime": {unix.MOUNT_ATTR_RELATIME, atime},
		"relatime": {unix.MOUNT_ATTR_RELATIME, atime}, "norelatime": {unix.MOUNT_ATTR_STRICTATIME, atime},
		"strictatime": {unix.MOUNT_ATTR_STRICTATIME, atime}, "nostrictatime": {unix.MOUNT_ATTR_RELATIME, atime},
	}[option]
	a.set = a.set&^change.clear | change.set
	a.clear = a.clear&^change.set | change.clear
	return known
}

// bindAttributes returns the attributes of a bind, and the options that say the same.
// Options that belong to the filesystem were given when it was mounted.
func bindAttributes(readOnly bool, options []string) (a attributes, own []string) {
	for _, list := range options {
		for o := range strings.SplitSeq(list, ",") {
			if o != "ro" && a.add(o) {
				own = append(own, o)
			}
		}
	}
	if readOnly && a.add("ro") {
		own = append(own, "ro")
	}
	return a, own
}

// kernelBind binds source at mountpoint in such a way that the mount is never there
// without its attributes, from Linux 5.12 on.
func kernelBind(source, mountpoint string, a attributes) error {
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
	return os.NewSyscallError("move_mount", unix.MoveMount(tree, "", unix.AT_FDCWD, mountpoint, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// tooOld tells whether the kernel, or what filters its system calls, doesn't
// know one that the mounts here need. Filters of before these calls answer EPERM.
func tooOld(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
}

// withoutAttribute tells whether a kernel that knows fsmount(2) doesn't know an
// attribute: nosymfollow is one from Linux 5.14 on. mount(8) then says so, or does it.
func withoutAttribute(err error, a attributes) bool {
	return errors.Is(err, unix.EINVAL) && a.set&unix.MOUNT_ATTR_NOSYMFOLLOW != 0
}

// maxStacked bounds how many mounts are taken off one target.
const maxStacked = 1024

// Unmount removes every mount that is exactly at target, whatever it is and
// whether it still works, and returns when what was written is on the disk. It
// returns nil when nothing is mounted there or target doesn't exist, and leaves
// target itself alone. A mount that stays in use for busyWait is ErrBusy; it is never
// detached lazily, since that would hide that the disk is still written to.
//
// When ctx ends first, the kernel goes on flushing; a later call waits for it.
func (f *FS) Unmount(ctx context.Context, target string) error {
	mountpoint, err := canonical(target)
	if err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	err = f.jobs.do(ctx, "mount "+mountpoint, "unmount", func(detached context.Context) (err error) {
		defer f.seen.kernel(detached, "umount", "")(&err)
		return whileBusy(ctx, func() error { return f.unmount(mountpoint) }, func() bool { return true })
	})
	if err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}

// unmount does the work of Unmount.
func (f *FS) unmount(mountpoint string) error {
	for range maxStacked {
		_, there, err := f.Lookup(mountpoint)
		if err != nil || !there {
			return err
		}
		if err := umount(mountpoint); err != nil {
			return err
		}
	}
	return fmt.Errorf("more than %d mounts lie upon each other", maxStacked)
}

// umount removes the topmost mount at mountpoint; nil when somebody else did.
func umount(mountpoint string) error {
	err := unix.Unmount(mountpoint, unix.UMOUNT_NOFOLLOW)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return unmountFailure(mountpoint, err)
	}
	return err
}

// unmountFailure tells apart a mount that has gone from one that can't be reached,
// because something is mounted over the directory that it is in.
func unmountFailure(mountpoint string, cause error) error {
	infos, err := readMounts()
	if err != nil {
		return errors.Join(cause, err)
	}
	if topmost(infos, mountpoint) == nil {
		return nil
	}
	return fmt.Errorf("%w: another mount hides it: %w", ErrBusy, cause)
}

// undo takes back a mount that isn't what it should be.
func undo(mountpoint string, cause error) error {
	err := unix.Unmount(mountpoint, unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w (and it could not be unmounted again: %w)", cause, err)
	}
	return cause
}
