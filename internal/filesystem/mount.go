package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

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
func (f *FS) Mount(ctx context.Context, path, target, fsType string, options []string) error {
	if !Supported(fsType) {
		return fmt.Errorf("mount %s: %w: %q", path, ErrUnsupported, fsType)
	}
	place, err := mountTarget(target)
	if err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	d, err := openDevice(path)
	if err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	what := "mount " + path + " " + fsType + " " + strings.Join(options, ",")
	err = f.jobs.doHolding(ctx, "mount "+place, what, d.close, func(context.Context) error {
		return f.whenFree(ctx, d.number, func() error { return f.mount(path, d, place, fsType, options) })
	})
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", path, target, err)
	}
	return nil
}

// mountTarget returns the canonical path of an existing directory.
func mountTarget(target string) (string, error) {
	place, err := canonical(target)
	if err != nil {
		return "", err
	}
	info, err := os.Lstat(place)
	if err != nil {
		return "", fmt.Errorf("target: %w", spent(err))
	}
	if !info.IsDir() {
		return "", fmt.Errorf("target %s is not a directory", target)
	}
	return place, nil
}

// mount does the work of Mount.
func (f *FS) mount(path string, d *handle, place, fsType string, options []string) error {
	readOnly := wantsReadOnly(options)
	if d.readOnly && !readOnly {
		return fmt.Errorf("device is %w", ErrReadOnly)
	}
	mounted, there, err := f.Lookup(place)
	if err != nil {
		return err
	}
	if there {
		return sameMount(mounted, d.number, readOnly)
	}
	if err := f.mountFilesystem(path, place, fsType, mountOptions(fsType, options)); err != nil {
		return err
	}
	mounted, there, err = f.Lookup(place)
	if err == nil && !there {
		err = fmt.Errorf("%w: mount(8) said it succeeded", ErrNotMounted)
	}
	if err == nil {
		err = sameMount(mounted, d.number, readOnly)
	}
	if err != nil {
		return undo(place, err)
	}
	return nil
}

// mountFilesystem asks the kernel to mount, or mount(8) where it has a part in it.
func (f *FS) mountFilesystem(source, place, fsType string, options []string) error {
	if mount, plain, ok := plainOptions(options, hasSELinux()); ok {
		err := kernelMount(source, place, fsType, mount, plain)
		if !tooOld(err) && !withoutAttribute(err, mount) {
			return err
		}
	}
	if err := f.mounter.Mount(source, place, fsType, options); err != nil {
		return markBusy(err, err.Error())
	}
	return nil
}

// sameMount returns nil when m is a mount of a whole filesystem on that disk,
// read-only or not as asked.
func sameMount(m MountPoint, number uint64, readOnly bool) error {
	switch {
	case m.Number != number:
		return fmt.Errorf("%w: device %s is, and %s should be", ErrMounted, numberString(m.Number), numberString(number))
	case m.Root != "/":
		return fmt.Errorf("%w: only %s of the device is", ErrMounted, m.Root)
	case m.GivenUp:
		return fmt.Errorf("%w: %s", ErrGivenUp, m.Target)
	case (m.ReadOnly || m.FilesystemReadOnly) && !readOnly:
		return fmt.Errorf("%w: read-only, and it should be writable", ErrMounted)
	case !m.ReadOnly && readOnly:
		return fmt.Errorf("%w: writable, and it should be read-only", ErrMounted)
	}
	return nil
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
