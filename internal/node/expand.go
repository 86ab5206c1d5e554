package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// NodeExpandVolume makes the filesystem at a path as large as its disk, after it
// has proven that the path is a mount of that very disk, and that the disk has
// grown. For block access it only proves the latter. The capacity it answers is
// the disk's, which the filesystem then fills, but for the header of one that is
// encrypted.
func (s *Server) NodeExpandVolume(ctx context.Context, req *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	size, err := s.expand(ctx, req)
	if errors.Is(err, blockdev.ErrUnsafe) {
		// Not FailedPrecondition: the kubelet takes it for "not while it is in use".
		err = fmt.Errorf("%w: %w", errNotYet, err)
	}
	if err != nil {
		return nil, s.failure("expand", req.GetVolumeId(), err)
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: size}, nil
}

func (s *Server) expand(ctx context.Context, req *csi.NodeExpandVolumeRequest) (int64, error) {
	if req.GetVolumeId() == "" {
		return 0, fmt.Errorf("%w: volume_id is missing", errInvalid)
	}
	required, limit, err := checkRange(req.GetCapacityRange())
	if err != nil {
		return 0, err
	}
	path, err := checkVolumePath(req.GetVolumePath())
	if err != nil {
		return 0, err
	}
	unlock, err := s.lock(ctx, req.GetVolumeId(), "")
	if err != nil {
		return 0, err
	}
	defer unlock()
	at, err := s.inspectExisting(path)
	if err != nil {
		return 0, err
	}
	disk, err := s.findDisk(ctx, req.GetVolumeId())
	if err != nil {
		return 0, err
	}
	data, encrypted, err := s.dataDisk(disk)
	if err != nil {
		return 0, err
	}
	block, err := checkExpandable(at, data, req.GetVolumeCapability())
	if err != nil {
		return 0, err
	}
	if disk, err = s.awaitSize(ctx, disk, required); err != nil {
		return 0, err
	}
	if disk.Size > limit {
		return 0, fmt.Errorf("%w: %s has %d bytes, more than limit_bytes, %d", errRange, disk.Path, disk.Size, limit)
	}
	if !encrypted {
		data = disk
	} else if data, err = s.expandMapping(ctx, disk, data); err != nil {
		return 0, err
	}
	if block {
		return disk.Size, nil
	}
	return disk.Size, s.growMounted(ctx, data, at)
}

// checkRange returns how many bytes a volume must have at least and at most.
func checkRange(asked *csi.CapacityRange) (required, limit int64, err error) {
	required, limit = asked.GetRequiredBytes(), asked.GetLimitBytes()
	switch {
	case required < 0 || limit < 0:
		return 0, 0, fmt.Errorf("%w: required_bytes or limit_bytes is negative", errInvalid)
	case limit == 0:
		limit = math.MaxInt64
	case limit < required:
		return 0, 0, fmt.Errorf("%w: limit_bytes is below required_bytes", errRange)
	}
	return required, limit, nil
}

// checkVolumePath returns the path of a volume that exists somewhere. A path
// that can't be one is where no volume is.
func checkVolumePath(path string) (string, error) {
	clean, err := checkPath("volume_path", path)
	if err != nil && path != "" {
		return "", fmt.Errorf("%w: %v", errNotHere, err) //nolint:errorlint // its kind would decide the code
	}
	return clean, err
}

// checkExpandable proves that the place is the disk's, and tells whether it is
// used as a block device. Where the capability says so there is no filesystem to
// be mistaken about, and the path, which may be a staging directory, doesn't
// matter.
func checkExpandable(at pathState, disk blockdev.Disk, c *csi.VolumeCapability) (block bool, err error) {
	switch {
	case c.GetBlock() != nil:
		return true, nil
	case at.is(disk) && c.GetMount() == nil:
		return true, nil
	case at.holds(disk):
		return false, nil
	}
	return false, wrongDisk(disk, errNotHere, at)
}

// sizeWait is how long an expansion waits for the disk to grow. A guest sees
// the growth about a second after Cinder says that it is done; later it is up to
// the caller to ask again.
const sizeWait = 3 * time.Second

// hiddenBytes is how much of a volume a server may not get to see: where the
// volume's type says so, Nova itself encrypts the volume, and the header of LUKS
// is at its beginning, at most 16 MiB. Cinder's sizes are whole GiB, so that no
// growth is that small.
const hiddenBytes = 16 << 20

// awaitSize returns the disk with the size that the kernel sees now, once it is
// large enough. Not every bus tells of a growth, so it is read now and then.
func (s *Server) awaitSize(ctx context.Context, disk blockdev.Disk, required int64) (blockdev.Disk, error) {
	limit := time.NewTimer(sizeWait)
	defer limit.Stop()
	for {
		fresh, err := s.cfg.Finder.Refresh(ctx, disk)
		if err != nil {
			return disk, err
		}
		if fresh.Size >= required-hiddenBytes {
			return fresh, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fresh, fmt.Errorf("%s has %d bytes, %d are asked for: %w", disk.Path, fresh.Size, required, ctx.Err())
		case <-limit.C:
			return fresh, fmt.Errorf("%w: %s has %d bytes, %d are asked for: this server doesn't see the growth yet",
				errNotYet, disk.Path, fresh.Size, required)
		}
	}
}

// growMounted grows the filesystem by way of a mount that may write.
func (s *Server) growMounted(ctx context.Context, disk blockdev.Disk, at pathState) error {
	live, err := s.cfg.Finder.Claimed(ctx, disk)
	if err != nil {
		return err
	}
	if !live {
		return fmt.Errorf("%w: %v, but of a disk that was there before %s", errNotYet, at, disk.Path)
	}
	mount := at.mount
	if !mount.Writable() {
		if mount, err = s.writableMount(disk); err != nil {
			return err
		}
	}
	_, err = s.cfg.FS.Grow(ctx, disk.Path, mount.Target)
	if errors.Is(err, filesystem.ErrOnlineGrowth) {
		return fmt.Errorf("%w: the filesystem grows when the volume is staged next: end the workloads that use it on this node", err)
	}
	return err
}

func (s *Server) writableMount(disk blockdev.Disk) (filesystem.MountPoint, error) {
	mounts, err := s.cfg.FS.MountsOf(disk.Number)
	if err != nil {
		return filesystem.MountPoint{}, err
	}
	var targets []string
	for _, m := range mounts {
		if m.Writable() {
			return m, nil
		}
		targets = append(targets, m.Target)
	}
	return filesystem.MountPoint{}, fmt.Errorf("%w: the volume is mounted read-only, at %v: it can't grow", errReadOnly, targets)
}
