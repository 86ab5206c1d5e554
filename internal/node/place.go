package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// place is what is at a path at this moment.
type place struct {
	path string
	// exists: there is a file or directory, or a mount.
	exists bool
	// mounted: something is mounted exactly there; mount tells what.
	mounted bool
	mount   filesystem.MountPoint
	// device: it is a block device, whose number is number. Otherwise number
	// is that of the disk below the mount.
	device bool
	number uint64
}

// inspect looks at a path, without following a link at its end. A mount whose
// disk is gone is still told apart, from the mount table.
func (s *Server) inspect(at string) (place, error) {
	p := place{path: at}
	mount, mounted, err := s.cfg.FS.Lookup(at)
	if err != nil {
		return place{}, fmt.Errorf("look up %s: %w", at, err)
	}
	p.mounted, p.mount = mounted, mount
	if mounted {
		p.exists, p.number = true, mount.Number
	}
	info, err := os.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p, nil
	case err != nil && mounted:
		return p, nil
	case err != nil:
		return place{}, fmt.Errorf("look up %s: %w", at, err)
	}
	p.exists = true
	if number, ok := deviceNumber(info); ok {
		p.device, p.number = true, number
	}
	return p, nil
}

// inspectDir looks at a path where a filesystem is to be mounted, as inspect
// does, and makes the directory if there is none.
func (s *Server) inspectDir(path string) (place, error) {
	return s.inspectOrMake(path, makeDir)
}

// inspectFile is inspectDir for a path where a device is to appear.
func (s *Server) inspectFile(path string) (place, error) {
	return s.inspectOrMake(path, makeFile)
}

func (s *Server) inspectOrMake(path string, create func(string) error) (place, error) {
	resolved, err := resolve(path)
	if err != nil {
		return place{}, err
	}
	if s.cfg.Deployed {
		if err := s.checkVisible(resolved); err != nil {
			return place{}, err
		}
	}
	at, err := s.inspect(resolved)
	if err != nil || at.mounted {
		return at, err
	}
	if err := create(resolved); err != nil {
		return place{}, err
	}
	if resolved, err = resolve(path); err != nil { // its parents exist by now
		return place{}, err
	}
	return s.inspect(resolved)
}

func (s *Server) checkVisible(path string) error {
	root, err := s.root()
	if err != nil {
		return err
	}
	under, err := s.cfg.FS.Under(path)
	if err != nil {
		return err
	}
	return checkVisible(path, root, under)
}

// checkVisible refuses a path in the container which this process runs in from
// where nothing gets out: what is mounted there no workload sees, and what it
// writes instead goes to the node's own disk. That is the container's root, and a
// directory of the node that was mounted into it without propagation.
func checkVisible(path string, root, under filesystem.MountPoint) error {
	switch {
	case !isContainer(root):
		return nil
	case under.Target == "/":
		return fmt.Errorf("%w: %s is inside of this driver's own container: the directory of the kubelet has to be mounted into it, with bidirectional propagation",
			errRefused, path)
	case !under.Shared:
		return fmt.Errorf("%w: what is mounted at %s nobody sees but this driver's own container: %s has to be mounted into it with mountPropagation: Bidirectional",
			errRefused, path, under.Target)
	}
	return nil
}

// isContainer tells by the mount of the root directory whether it is that of a
// container, which is an overlay.
func isContainer(root filesystem.MountPoint) bool { return root.FSType == "overlay" }

// holds reports whether the place is a mounted filesystem of the disk, by
// number alone; see blockdev.ClaimDevice.
func (p place) holds(d blockdev.Disk) bool {
	return p.mounted && !p.device && p.number == d.Number
}

// String says what is there.
func (p place) String() string {
	switch {
	case p.device && p.mounted:
		return fmt.Sprintf("%s is the block device %s", p.path, formatNumber(p.number))
	case p.device:
		return p.path + " is a device node, and no mount"
	case p.mounted:
		return fmt.Sprintf("%s is a mount of %s (%s, %s)", p.path, p.mount.Source, formatNumber(p.number), p.mount.FSType)
	case p.exists:
		return "nothing is mounted at " + p.path
	}
	return p.path + " does not exist"
}

func deviceNumber(info fs.FileInfo) (uint64, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, false
	}
	return uint64(stat.Rdev), true //nolint:unconvert // 32 bits wide on some architectures
}

func formatNumber(number uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))
}

// gone reports whether the disk of the place is gone: the kernel has no block
// device of its number any more, so that no data can be reached through it. A
// filesystem that never had a disk, such as a tmpfs, is not gone.
func (p place) gone() bool {
	if unix.Major(p.number) == 0 && p.mount.FSType != "btrfs" {
		return false
	}
	_, err := os.Stat("/sys/dev/block/" + formatNumber(p.number))
	return errors.Is(err, fs.ErrNotExist)
}

// deviceMounts returns the paths onto which the disk's device node is bound.
func deviceMounts(d blockdev.Disk) ([]string, error) {
	node := path.Base(d.Path)
	// Only mounts of a file with the node's name are looked at more closely: to
	// touch every mount of a node would wait for a dead NFS server.
	infos, err := mountinfo.GetMounts(func(info *mountinfo.Info) (skip, stop bool) {
		return path.Base(strings.TrimSuffix(info.Root, "//deleted")) != node, false
	})
	if err != nil {
		return nil, fmt.Errorf("mount table: %w", err)
	}
	var paths []string
	for _, info := range infos {
		file, err := os.Lstat(info.Mountpoint)
		if err != nil {
			continue // unmounted since, or covered by another mount
		}
		if number, ok := deviceNumber(file); ok && number == d.Number {
			paths = append(paths, info.Mountpoint)
		}
	}
	return paths, nil
}

// copyOf reports whether a mount is the one at path, or its copy: where a part
// of the node's tree is mounted a second time, such as at /host, the kernel
// propagates mounts to there, and takes the copy away together with the first.
func (s *Server) copyOf(mounted, path string) bool {
	root, ok := strings.CutSuffix(mounted, path)
	if !ok || root == "" {
		return ok
	}
	_, isMount, err := s.cfg.FS.Lookup(root)
	return err == nil && isMount
}
