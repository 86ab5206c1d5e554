package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/luks"
)

// diskWait is the longest that a call waits for a disk to appear. A guest sees
// a new disk about a second after Nova says it is attached; the reference waits
// 28 s.
const diskWait = 60 * time.Second

// awaitDisk finds the disk of a volume, waiting for it to appear, and reads its
// size anew. It gives up a little before the call's deadline, so that the caller
// still hears why.
func (s *Server) awaitDisk(ctx context.Context, volumeID string) (blockdev.Disk, error) {
	wait := diskWait
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		wait = min(wait, left-min(left/10, 2*time.Second))
	}
	waitCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	disk, err := s.seen.wait(waitCtx, volumeID, func(ctx context.Context) (blockdev.Disk, error) { return s.cfg.Finder.Wait(ctx, volumeID) })
	switch {
	case err == nil:
		return s.cfg.Finder.Refresh(ctx, disk) // what it was found by may be older than it is
	case ctx.Err() != nil:
		return blockdev.Disk{}, fmt.Errorf("wait for its disk: %w", err)
	case errors.Is(err, blockdev.ErrNotFound), waitCtx.Err() != nil && !errors.Is(err, blockdev.ErrUnsafe):
		return blockdev.Disk{}, fmt.Errorf("%w: its disk has not appeared within %v: %w", errNotYet, wait.Round(time.Second/10), err)
	}
	return blockdev.Disk{}, err
}

// findDisk finds the disk of a volume that has to be there. There is no waiting:
// whoever asks has seen it before.
func (s *Server) findDisk(ctx context.Context, volumeID string) (blockdev.Disk, error) {
	disk, err := s.cfg.Finder.Find(ctx, volumeID)
	if errors.Is(err, blockdev.ErrNotFound) {
		return blockdev.Disk{}, fmt.Errorf("%w: its disk is not here: %w", errNotYet, err)
	}
	return disk, err
}

// presence is what is on this server of a volume.
type presence struct {
	// disks are the volume's, whatever their state: none when it is detached already or
	// has never been here, more than one when the kernel hasn't been told that an earlier
	// attachment is over. To take something away, none of them has to be the right one;
	// each must be unused in the end.
	disks []blockdev.Disk
	// mapping is that of an encrypted volume that is open, whatever it is built upon.
	mapping *blockdev.Mapping
}

// all returns the disks, and before them the mapping.
func (p presence) all() []blockdev.Disk {
	if p.mapping == nil {
		return p.disks
	}
	return append([]blockdev.Disk{p.mapping.Disk}, p.disks...)
}

// present returns what is on this server of a volume, as far as that can be told.
func (s *Server) present(ctx context.Context, volumeID string) (p presence, err error) {
	var errDisks, errMapping error
	p.disks, errDisks = s.cfg.Finder.Candidates(ctx, volumeID)
	if errors.Is(errDisks, blockdev.ErrNotFound) || errors.Is(errDisks, blockdev.ErrVolumeID) {
		errDisks = nil
	}
	p.mapping, errMapping = s.mapping(volumeID)
	return p, errors.Join(errDisks, errMapping)
}

// mapping returns the mapping of a volume, whatever it is built upon; nil where there is
// none.
func (s *Server) mapping(volumeID string) (*blockdev.Mapping, error) {
	m, found, err := s.cfg.Finder.Mapping(volumeID)
	if errors.Is(err, blockdev.ErrVolumeID) || errors.Is(err, blockdev.ErrNotFound) {
		return nil, nil // none, or gone while it was looked at
	}
	if err != nil || !found {
		return nil, err
	}
	return &m, nil
}

// dataDisk returns what a workload's data is on: the mapping of an encrypted
// volume that is open, else the disk itself.
func (s *Server) dataDisk(disk blockdev.Disk) (data blockdev.Disk, encrypted bool, err error) {
	m, err := s.mapping(disk.VolumeID)
	if err != nil || m == nil {
		return disk, false, err
	}
	if on, err := m.On(disk); err != nil || !on {
		return disk, false, err
	}
	return m.Disk, true, nil
}

// openDisk returns the mapping of an encrypted volume that has been staged.
func (s *Server) openDisk(disk blockdev.Disk) (blockdev.Disk, error) {
	data, open, err := s.dataDisk(disk)
	if err == nil && !open {
		return disk, fmt.Errorf("%w: the encrypted volume is not open: it has to be staged first", errNotStaged)
	}
	return data, err
}

// isReadOnly tells whether a disk is read-only for everybody on this server. It asks
// the kernel, not the disk.
func isReadOnly(number uint64) (bool, error) {
	flag, err := os.ReadFile("/sys/dev/block/" + blockdev.FormatNumber(number) + "/ro")
	if err != nil {
		return false, fmt.Errorf("whether the disk is read-only: %w", err)
	}
	return strings.TrimSpace(string(flag)) != "0", nil
}

// setReadOnly makes a disk read-only, or writable, for everybody on this server.
// The mount of a device node could not: it is no obstacle to writing to the
// device. Nor is a read-only mount of ext: the kernel then still deletes the files
// that were deleted while they were open, unless the disk itself is read-only,
// which may be under the feet of a writer on another server. A disk that is
// attached again is writable again.
func setReadOnly(disk blockdev.Disk, readOnly bool) (err error) {
	if is, err := isReadOnly(disk.Number); err == nil && is == readOnly {
		return disk.Verify()
	}
	f, err := os.OpenFile(disk.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("volume %s: %w", disk.VolumeID, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := disk.Verify(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("volume %s: stat %s: %w", disk.VolumeID, disk.Path, err)
	}
	if st.Rdev != disk.Number {
		return fmt.Errorf("volume %s: %w: another disk has become %s", disk.VolumeID, blockdev.ErrUnsafe, disk.Path)
	}
	want := 0
	if readOnly {
		want = 1
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, want); err != nil {
		return fmt.Errorf("volume %s: making %s %s: %w", disk.VolumeID, disk.Path, access(readOnly), err)
	}
	return nil
}

// unclaimedWait is how long the kernel may take to let go of a disk after its
// last mount in this namespace went: a container that is just ending may hold
// a copy of the mount.
const unclaimedWait = 10 * time.Second

// awaitUnclaimed waits until neither a filesystem nor another device nor a tool
// that writes to it holds the disk. The kernel tells nobody of that moment, so
// it is asked now and then.
func (s *Server) awaitUnclaimed(ctx context.Context, d blockdev.Disk) error {
	ctx, cancel := context.WithTimeout(ctx, unclaimedWait)
	defer cancel()
	for seen, pause := false, time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		held, err := s.cfg.Finder.Claimed(ctx, d)
		if seen = seen || held; !seen || ctx.Err() == nil && !held {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the kernel holds %s for a mount in another mount namespace, or a tool such as mkfs works on it",
				errInUse, d.Path)
		case <-time.After(pause):
		}
	}
}

// flush writes what the kernel still holds back to the disk: all of a mounted
// filesystem if path is a directory, the device's own cache if it is a block
// device. It returns when ctx ends; the kernel goes on. A disk that hangs costs
// one goroutine, however often the caller comes back.
func (s *Server) flush(ctx context.Context, path string) error {
	_, err := s.flushes.DoAfter(ctx, path, func() (struct{}, error) { return struct{}{}, flushNow(path) })
	if err != nil {
		return fmt.Errorf("flush %s: %w", path, err)
	}
	return nil
}

func flushNow(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFBLK {
		return unix.Fsync(fd)
	}
	return unix.Syncfs(fd)
}

// closeMapping proves that nothing on this node uses the mapping, flushes it and
// takes it away.
func (s *Server) closeMapping(ctx context.Context, m blockdev.Mapping) error {
	if err := s.release(ctx, m.Disk); err != nil {
		return err
	}
	if err := s.cfg.Crypt.Close(ctx, m.Title); err != nil {
		return err
	}
	if left, err := s.mapping(m.VolumeID); err != nil || left != nil {
		return errors.Join(err, fmt.Errorf("%w: the mapping %s of %s is still there", errInUse, m.Title, m.Path))
	}
	return nil
}

// growMapping makes a mapping as large as its disk, and returns it with its new
// size.
func (s *Server) growMapping(ctx context.Context, disk, data blockdev.Disk, header luks.Header) (blockdev.Disk, error) {
	want := header.Mapped(disk.Size)
	if data.Size >= want {
		return data, nil
	}
	if err := s.cfg.Crypt.Resize(ctx, disk.Path, header, blockdev.MappingTitle(disk.VolumeID)); err != nil {
		return data, err
	}
	grown, err := s.cfg.Finder.Refresh(ctx, data)
	if err != nil {
		return data, err
	}
	if grown.Size != want {
		return data, fmt.Errorf("cryptsetup reported success, but the mapping %s has %d bytes instead of %d",
			grown.Path, grown.Size, want)
	}
	return grown, nil
}

// expandMapping is growMapping by the header that the disk has now.
func (s *Server) expandMapping(ctx context.Context, disk, data blockdev.Disk) (blockdev.Disk, error) {
	header, err := s.cfg.Crypt.Read(ctx, disk.Path)
	if err != nil {
		return data, err
	}
	return s.growMapping(ctx, disk, data, header)
}

// builtUpon refuses a disk that would be written to, upon which the node's udev has
// built devices, or that anything else uses.
func builtUpon(d blockdev.Disk, holders []blockdev.Holder) error {
	return fmt.Errorf("%w: %[3]v is built upon %[2]s: remove that (vgchange -an, mdadm --stop, multipath -f), and keep the node from building it again",
		errHeld, d.Path, holders)
}
