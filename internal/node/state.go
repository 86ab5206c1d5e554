package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// pathState is what is at a path at this moment.
type pathState struct {
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
func (s *Server) inspect(path string) (pathState, error) {
	at, err := resolve(path)
	if err != nil {
		return pathState{}, err
	}
	p := pathState{path: at}
	mount, mounted, err := s.cfg.FS.Lookup(at)
	if err != nil {
		return pathState{}, fmt.Errorf("look up %s: %w", at, err)
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
		return pathState{}, fmt.Errorf("look up %s: %w", at, err)
	}
	p.exists = true
	if number, ok := deviceNumber(info); ok {
		p.device, p.number = true, number
	}
	return p, nil
}

// inspectOrMake looks at a path where a filesystem is to be mounted, or a device
// to appear, and makes what create makes if there is nothing.
func (s *Server) inspectOrMake(path string, create func(string) error) (pathState, error) {
	resolved, err := resolve(path)
	if err != nil {
		return pathState{}, err
	}
	if s.cfg.Deployed {
		if err := s.checkVisible(resolved); err != nil {
			return pathState{}, err
		}
	}
	at, err := s.inspect(resolved)
	if err != nil || at.mounted {
		return at, err
	}
	if err := create(resolved); err != nil {
		return pathState{}, err
	}
	return s.inspect(path) // its parents exist by now
}

// inspectExisting looks at the path of a volume that is in use; a link at its end
// is followed, since the kubelet has links to block volumes.
func (s *Server) inspectExisting(path string) (pathState, error) {
	resolved, err := resolve(path)
	if err != nil {
		return pathState{}, err
	}
	if info, err := os.Lstat(resolved); err == nil && info.Mode()&os.ModeSymlink != 0 {
		if resolved, err = filepath.EvalSymlinks(resolved); err != nil {
			return pathState{}, fmt.Errorf("%w: %w", errNotHere, err)
		}
	}
	at, err := s.inspect(resolved)
	if err != nil {
		return pathState{}, err
	}
	if !at.exists {
		return pathState{}, fmt.Errorf("%w: %v", errNotHere, at)
	}
	return at, nil
}

// holds reports whether a filesystem of the disk is mounted at the path, by
// number alone; see live.
func (p pathState) holds(d blockdev.Disk) bool {
	return p.mounted && !p.device && p.number == d.Number
}

// is reports whether the path is the device node of the disk.
func (p pathState) is(d blockdev.Disk) bool {
	return p.mounted && p.device && p.number == d.Number
}

// gone reports whether the disk of what is mounted at the path is gone: the kernel
// has no block device of its number any more, so that no data can be reached
// through it. A filesystem that never had a disk, such as a tmpfs, is not gone.
func (p pathState) gone() bool {
	if _, err := filesystem.TypeOf(p.mount.FSType); err != nil && unix.Major(p.number) == 0 {
		return false
	}
	_, err := os.Stat("/sys/dev/block/" + blockdev.FormatNumber(p.number))
	return errors.Is(err, fs.ErrNotExist)
}

// stale reports whether what is mounted at the path may have been left by a disk
// that was pulled, though another one has its number now: the kernel took the node
// of that disk away, or nothing holds the disk that has the number.
func (s *Server) stale(ctx context.Context, p pathState) bool {
	switch {
	case p.gone(), p.mount.GivenUp:
		return true
	case p.device:
		return strings.HasSuffix(p.mount.Root, "//deleted")
	}
	info, err := os.Lstat(p.mount.Source)
	if err != nil {
		return true
	}
	number, ok := deviceNumber(info)
	if !ok || number != p.number {
		return true
	}
	held, err := s.cfg.Finder.Claimed(ctx, blockdev.Disk{Path: p.mount.Source, Number: number})
	return err != nil || !held
}

// foreign reports whether what is mounted at the path is known to belong to
// something else than the volume whose disks these are: they are here, and another
// disk is mounted. Where none of them is found nothing is known.
func (s *Server) foreign(ctx context.Context, p pathState, disks []blockdev.Disk) bool {
	if !p.mounted || len(disks) == 0 || unix.Major(p.number) == 0 || !p.device && p.mount.Root != "/" {
		return false
	}
	return !slices.ContainsFunc(disks, func(d blockdev.Disk) bool { return d.Number == p.number }) && !s.stale(ctx, p)
}

// String says what is there.
func (p pathState) String() string {
	switch {
	case p.device && p.mounted:
		return fmt.Sprintf("%s is the block device %s", p.path, blockdev.FormatNumber(p.number))
	case p.device:
		return p.path + " is a device node, and no mount"
	case p.mounted:
		return fmt.Sprintf("%s is a mount of %s (%s, %s)", p.path, p.mount.Source, blockdev.FormatNumber(p.number), p.mount.FSType)
	case p.exists:
		return "nothing is mounted at " + p.path
	}
	return p.path + " does not exist"
}

// wrongDisk is the error of that kind for a path at which another disk is mounted.
func wrongDisk(disk blockdev.Disk, kind error, at pathState) error {
	return fmt.Errorf("%w: %v, which is not the volume's disk %s (%s)", kind, at, disk.Path, blockdev.FormatNumber(disk.Number))
}

// access is what a mount or a disk allows: true for reading only.
type access bool

func (readOnly access) String() string {
	if readOnly {
		return "read-only"
	}
	return "writable"
}

// readOnly tells whether a mount is read-only, by itself or with its filesystem.
func readOnly(m filesystem.MountPoint) bool { return m.ReadOnly || m.FilesystemReadOnly }

// turnedReadOnly tells whether a filesystem that was mounted for writers can't be
// written to any more. What is mounted for readers is on a disk that is read-only.
func turnedReadOnly(m filesystem.MountPoint, diskReadOnly bool) bool {
	return m.GivenUp || m.FilesystemReadOnly && !diskReadOnly
}

func deviceNumber(info fs.FileInfo) (uint64, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, false
	}
	return uint64(stat.Rdev), true //nolint:unconvert // 32 bits wide on some architectures
}

// diskUse is what uses a disk on this server, besides the mount at one path.
type diskUse struct {
	// mounts are where its filesystem is mounted, without what goes away together
	// with the mount at that path.
	mounts []string
	// devices are where its node is published.
	devices []string
}

// targets are all places where the disk is used.
func (u diskUse) targets() []string { return slices.Concat(u.mounts, u.devices) }

// dataState is what uses the disk that the data of a volume is on, and how.
type dataState struct {
	data     blockdev.Disk     // the mapping of an encrypted volume, else its disk
	usage    diskUse           // besides at the staging path
	holders  []blockdev.Holder // what else uses the disk, or is built upon it
	readOnly bool              // the disk can't be written to
	// live: the disk is held. A mount that was left by a disk which was pulled
	// doesn't hold the one that has its number now.
	live bool
}

// readData looks at all of that.
func (s *Server) readData(ctx context.Context, data blockdev.Disk, staging string) (st dataState, err error) {
	st.data = data
	if st.usage, err = s.useOf(data, staging); err != nil {
		return st, err
	}
	if st.holders, err = blockdev.Holders(data); err != nil {
		return st, err
	}
	if st.readOnly, err = isReadOnly(data.Number); err != nil {
		return st, err
	}
	st.live, err = s.cfg.Finder.Claimed(ctx, data)
	return st, err
}

// checkStaging returns nil if the path is a mount of that very disk.
func checkStaging(disk blockdev.Disk, at pathState, live bool) error {
	switch {
	case !at.holds(disk):
		return wrongDisk(disk, fmt.Errorf("%w: staging path", errOtherwise), at)
	case !live:
		return fmt.Errorf("%w: staging path: %v, but of a disk that was there before %s", errOtherwise, at, disk.Path)
	}
	return nil
}

// useOf reads where a disk is used besides at a path.
func (s *Server) useOf(disk blockdev.Disk, at string) (usage diskUse, err error) {
	mounts, err := s.cfg.FS.MountsOf(disk.Number)
	if err != nil {
		return usage, err
	}
	if usage.devices, err = deviceMounts(disk); err != nil || len(mounts) == 0 {
		return usage, err
	}
	together, err := togetherWith(at)
	for _, m := range mounts {
		if !slices.Contains(together, m.Target) {
			usage.mounts = append(usage.mounts, m.Target)
		}
	}
	return usage, err
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

// togetherWith returns the path and those of the mounts that the kernel takes away
// together with a mount at the path. There are some where the directory that the
// path is in is seen twice, such as below /host, or because the kubelet's directory
// is bound from a data disk: a mount then appears at the same place of every mount
// to which events of its parent are propagated.
func togetherWith(at string) ([]string, error) {
	together := []string{at}
	infos, err := mountinfo.GetMounts(nil)
	if err != nil {
		return together, fmt.Errorf("mount table: %w", err)
	}
	byID := make(map[int]*mountinfo.Info, len(infos))
	for _, info := range infos {
		byID[info.ID] = info
	}
	var parent *mountinfo.Info
	for _, info := range infos {
		if info.Mountpoint == at && byID[info.Parent] != nil && byID[info.Parent].Mountpoint != at {
			parent = byID[info.Parent]
		}
	}
	if parent == nil {
		return together, nil
	}
	reached := propagatedTo(infos, parent)
	for _, info := range infos {
		other := byID[info.Parent]
		if other != nil && reached[other.ID] && within(other, info.Mountpoint) == within(parent, at) {
			together = append(together, info.Mountpoint)
		}
	}
	return together, nil
}

// propagatedTo returns the ids of the mounts to which events of a mount are
// propagated: its peers, those that follow any of them, and so on.
func propagatedTo(infos []*mountinfo.Info, from *mountinfo.Info) map[int]bool {
	groups, reached := map[string]bool{}, map[int]bool{}
	if group := peerGroup(from, "shared:"); group != "" {
		groups[group] = true
	}
	for grown := true; grown; {
		grown = false
		for _, info := range infos {
			shared, master := peerGroup(info, "shared:"), peerGroup(info, "master:")
			if reached[info.ID] || !groups[shared] && !groups[master] {
				continue
			}
			reached[info.ID], grown = true, true
			if shared != "" {
				groups[shared] = true
			}
		}
	}
	return reached
}

func peerGroup(info *mountinfo.Info, kind string) string {
	for field := range strings.FieldsSeq(info.Optional) {
		if group, ok := strings.CutPrefix(field, kind); ok {
			return group
		}
	}
	return ""
}

// within returns where a path below a mount is in the mounted filesystem.
func within(mount *mountinfo.Info, at string) string {
	return path.Join(mount.Root, strings.TrimPrefix(at, mount.Mountpoint))
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
		return fmt.Errorf("%w: %s is inside of this driver's own container: mount the kubelet's directory into the container with mountPropagation: Bidirectional",
			errOtherwise, path)
	case !under.Shared:
		return fmt.Errorf("%w: a mount at %s is seen in this driver's own container only: mount %s into the container with mountPropagation: Bidirectional",
			errOtherwise, path, under.Target)
	}
	return nil
}

// isContainer tells by the mount of the root directory whether it is that of a
// container, which is an overlay, or was made of a snapshot by the runtime: then
// the directory that is mounted is deep within another filesystem.
func isContainer(root filesystem.MountPoint) bool {
	return root.FSType == "overlay" || root.FSType == "fuse.fuse-overlayfs" ||
		strings.Contains(root.Root, "/io.containerd.snapshotter.") || strings.Contains(root.Source, "/io.containerd.snapshotter.") ||
		strings.Contains(root.Root, "/docker/btrfs/subvolumes/") || strings.Contains(root.Root, "/containers/storage/")
}

// cleanupTime is how long a call that has failed may go on taking back what it has
// made, when its own time is up: a disk that hangs must not keep the volume's lock.
const cleanupTime = 30 * time.Second

// cleanupContext returns the context for that.
func cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

// unmountAgain unmounts what this call has mounted and that isn't as it should be
// for the reason err.
func (s *Server) unmountAgain(ctx context.Context, path string, err error) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	return errors.Join(err, s.cfg.FS.Unmount(ctx, path))
}

// undoPublish undoes the publication that this call has made and that isn't as it
// should be for the reason err. Where that fails too, NodeUnpublishVolume has
// another go at it.
func (s *Server) undoPublish(ctx context.Context, target string, err error) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	if uerr := s.cfg.FS.Unmount(ctx, target); uerr != nil {
		return errors.Join(err, uerr)
	}
	_ = removeTarget(target)
	return err
}

// Modes of what is made for a volume to be mounted on. The kubelet's own
// directories have the same.
const (
	dirMode  = 0o750
	fileMode = 0o640
)

// resolve returns path as the mount table has it, with the links on the way to
// it followed. The last component isn't touched: it may be a mount whose disk
// is gone. A path whose parent doesn't exist is returned as it is.
func resolve(path string) (string, error) {
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err != nil {
		return "", fmt.Errorf("path %s: %w", path, err)
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}

// makeDir makes the directory path and its parents, and refuses anything else
// that is there, a link included.
func makeDir(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%w: %s is no directory", errOtherwise, path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.MkdirAll(path, dirMode)
}

// makeTargetDir is makeDir for a target. It refuses a directory that has files: a
// mount would hide them, and nobody could remove the target when the workload ends.
func makeTargetDir(path string) error {
	if err := makeDir(path); err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if err == nil && len(entries) > 0 {
		err = strayFiles(path)
	}
	return err
}

func strayFiles(path string) error {
	return fmt.Errorf("%w: %s holds files of the node's own disk, which were written while nothing was mounted there: look what they are and remove them",
		errOtherwise, path)
}

// makeFile makes the empty file path and its parents, and refuses anything else
// that is there but an empty file.
func makeFile(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().IsRegular() && info.Size() == 0:
		return nil
	case err == nil:
		return fmt.Errorf("%w: %s is no empty file (%v, %d bytes)", errOtherwise, path, info.Mode(), info.Size())
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, fileMode) // #nosec G304 -- the target
	if err != nil {
		return err
	}
	return f.Close()
}

// removeTarget removes what makeTargetDir or makeFile made. What holds data is left
// and told: it was written to the node's own disk while nothing was mounted.
func removeTarget(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
	case info.Mode().IsRegular() && info.Size() == 0:
	default:
		return fmt.Errorf("%w: %s is not what was made for the volume (%v, %d bytes): look what it is and remove it",
			errOtherwise, path, info.Mode(), info.Size())
	}
	err = os.Remove(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ENOTEMPTY):
		return strayFiles(path)
	}
	return err
}
