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
