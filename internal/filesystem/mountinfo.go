package filesystem

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// MountPoint is one mount of this process's mount namespace.
type MountPoint struct {
	// Target is the absolute path of the mount, symlinks resolved.
	Target string
	// Number is the device number (dev_t) of the disk that the filesystem is
	// on. For btrfs too, whose own number in mountinfo is made up.
	Number uint64
	// Root is the path within the filesystem that is mounted; "/" but for binds.
	Root string
	// FSType is the filesystem's name.
	FSType string
	// Source is the device as it was named when it was mounted. It may have
	// another name now.
	Source string
	// Options are those of this mount alone, SuperOptions those that all mounts
	// of the filesystem share.
	Options, SuperOptions []string
	// ReadOnly is true when this mount is, whatever the filesystem is.
	ReadOnly bool
	// FilesystemReadOnly is true when the filesystem is, and with it every mount.
	FilesystemReadOnly bool
	// GivenUp is true when the kernel has given the filesystem up after an error:
	// nothing can be written to it, whatever the options say, until it was unmounted
	// and repaired. A filesystem that is read-only below a writable mount counts as
	// given up: the kernel makes it so where it knows no other way (errors=remount-ro).
	GivenUp bool
	// id is the kernel's number of the mount.
	id uint64
	// Shared is true when what is mounted below is also seen in other mount
	// namespaces, such as the node's.
	Shared bool
}

// Lookup returns the topmost mount that is exactly at target; false when there
// is none, which is also the answer for a missing target and for a symlink.
// It doesn't touch the mounted filesystem, so a dead one doesn't hang it; only
// btrfs is asked on which disk it is, which needs no disk.
func (f *FS) Lookup(target string) (MountPoint, bool, error) {
	mountpoint, err := canonical(target)
	if err != nil {
		return MountPoint{}, false, fmt.Errorf("look up mount: %w", err)
	}
	infos, err := readMounts()
	if err != nil {
		return MountPoint{}, false, fmt.Errorf("look up mount at %s: %w", target, err)
	}
	info := topmost(infos, mountpoint)
	if info == nil {
		return MountPoint{}, false, nil
	}
	return mountPoint(info), true, nil
}

// MountsOf returns every mount of the disk with that device number in this
// mount namespace, binds included.
func (f *FS) MountsOf(number uint64) ([]MountPoint, error) {
	infos, err := readMounts()
	if err != nil {
		return nil, fmt.Errorf("mounts of device %s: %w", blockdev.FormatNumber(number), err)
	}
	types, mounts := Types(), []MountPoint(nil)
	for _, info := range infos {
		own := unix.Mkdev(uint32(info.Major), uint32(info.Minor)) // #nosec G115 -- the kernel's own numbers
		if own != number && !slices.ContainsFunc(types, func(t *Type) bool { return t.Name == info.FSType && t.diskOf != nil }) {
			continue // others aren't looked at more closely: there may be thousands
		}
		if m := mountPoint(info); m.Number == number {
			mounts = append(mounts, m)
		}
	}
	return mounts, nil
}

// Under returns the mount that path lies on, which need not exist, or that is
// at path itself.
func (f *FS) Under(path string) (MountPoint, error) {
	mountpoint, err := canonical(path)
	if err != nil {
		return MountPoint{}, fmt.Errorf("look up the mount under it: %w", err)
	}
	infos, err := readMounts()
	if err != nil {
		return MountPoint{}, fmt.Errorf("look up the mount under %s: %w", path, err)
	}
	for {
		if info := topmost(infos, mountpoint); info != nil {
			return mountPoint(info), nil
		}
		if mountpoint == "/" {
			return MountPoint{}, fmt.Errorf("%w: not even the root directory is", ErrNotMounted)
		}
		mountpoint = filepath.Dir(mountpoint)
	}
}

// canonical resolves symlinks in the directory that holds target, but not
// target itself: a mount is never at a symlink.
func canonical(target string) (string, error) {
	if !filepath.IsAbs(target) {
		return "", fmt.Errorf("%q is not an absolute path", target)
	}
	target = filepath.Clean(target)
	dir, err := filepath.EvalSymlinks(filepath.Dir(target))
	if err != nil {
		// Missing, or on a dead filesystem: the name has to do.
		return target, nil //nolint:nilerr // explained above
	}
	return filepath.Join(dir, filepath.Base(target)), nil
}

// readMounts parses /proc/self/mountinfo. The kernel hands it out in pieces
// between which mounts may come and go, so that one may be missed: it is read
// until two readings agree, or a few times on a busy node.
func readMounts() ([]*mountinfo.Info, error) {
	const (
		path  = "/proc/self/mountinfo"
		tries = 4
	)
	var last []byte
	for range tries {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(data, last) {
			break
		}
		last = data
	}
	infos, err := mountinfo.GetMountsFromReader(bytes.NewReader(last), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return infos, nil
}

// topmost returns the mount at mountpoint that no other mount there lies upon.
func topmost(infos []*mountinfo.Info, mountpoint string) *mountinfo.Info {
	var here []*mountinfo.Info
	for _, info := range infos {
		if info.Mountpoint == mountpoint {
			here = append(here, info)
		}
	}
	for _, info := range slices.Backward(here) {
		covered := slices.ContainsFunc(here, func(o *mountinfo.Info) bool { return o.Parent == info.ID && o != info })
		if !covered {
			return info
		}
	}
	return nil
}

// mountPoint translates a line of mountinfo.
func mountPoint(info *mountinfo.Info) MountPoint {
	m := MountPoint{
		id: uint64(max(0, info.ID)), Target: info.Mountpoint, Root: info.Root, FSType: info.FSType, Source: info.Source,
		Number:       unix.Mkdev(uint32(info.Major), uint32(info.Minor)), // #nosec G115 -- the kernel's own numbers
		Options:      strings.Split(info.Options, ","),
		SuperOptions: strings.Split(info.VFSOptions, ","),
	}
	m.Shared = slices.ContainsFunc(strings.Fields(info.Optional), func(field string) bool { return strings.HasPrefix(field, "shared:") })
	m.ReadOnly = slices.Contains(m.Options, "ro")
	m.FilesystemReadOnly = slices.Contains(m.SuperOptions, "ro")
	t, err := TypeOf(m.FSType)
	if err != nil {
		t = &Type{}
	}
	m.GivenUp = t.givenUp(m)
	if t.diskOf != nil {
		if number, err := t.diskOf(m); err == nil {
			m.Number = number
		}
	}
	return m
}

// Writable tells whether a workload can write through the mount.
func (m MountPoint) Writable() bool {
	return !m.ReadOnly && !m.FilesystemReadOnly && !m.GivenUp
}

// givenUp tells whether the kernel has given a filesystem up. XFS says so in no
// option: from then on it answers nothing but EIO, of its root directory from memory.
func (t *Type) givenUp(m MountPoint) bool {
	if m.FilesystemReadOnly && !m.ReadOnly {
		return true
	}
	for _, o := range m.SuperOptions {
		if o == "emergency_ro" || o == "shutdown" {
			return true
		}
	}
	var st unix.Stat_t
	return t.shutSilently && errors.Is(unix.Lstat(m.Target, &st), unix.EIO)
}
