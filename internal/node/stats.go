package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// NodeGetVolumeStats tells how full the filesystem at a path is, after it has
// proven that it is the volume's, or how large a block volume is. It takes no
// lock: a volume that is being worked on can still be asked.
func (s *Server) NodeGetVolumeStats(ctx context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	usage, err := s.stats(ctx, req)
	if err != nil {
		return nil, s.failure("stats of", req.GetVolumeId(), err)
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: usage}, nil
}

func (s *Server) stats(ctx context.Context, req *csi.NodeGetVolumeStatsRequest) ([]*csi.VolumeUsage, error) {
	if req.GetVolumeId() == "" {
		return nil, fmt.Errorf("%w: volume_id is missing", errInvalid)
	}
	path, err := checkVolumePath(req.GetVolumePath())
	if err != nil {
		return nil, err
	}
	at, err := s.inspectExisting(path)
	if err != nil {
		return nil, err
	}
	usage, err := s.usage(ctx, req.GetVolumeId(), at)
	s.seen.abnormal.note(req.GetVolumeId(), conditionOf(at, err))
	return usage, err
}

// usage returns how much of a volume is used, at a path that is proven to be its.
func (s *Server) usage(ctx context.Context, volumeID string, at pathState) ([]*csi.VolumeUsage, error) {
	// Who else uses the disk doesn't matter to whoever only counts.
	here, err := s.present(ctx, volumeID)
	if err != nil {
		return nil, err
	}
	for _, disk := range here.all() {
		switch {
		case at.is(disk):
			return []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: disk.Size}}, nil
		case at.holds(disk):
			return s.filesystemStats(ctx, at.mount)
		}
	}
	return nil, fmt.Errorf("%w: %v, which is none of the volume's %d disks", errNotHere, at, len(here.all()))
}

// condition is what keeps a volume that is in use from being used as it should be.
type condition string

const (
	normal condition = ""
	// deviceGone: the kernel has no disk of the mount any more. The volume was detached
	// while it was mounted.
	deviceGone condition = "device_gone"
	// givenUp: the filesystem can't be written to any more, though it was mounted for
	// writers. The kernel has given it up after an error, or somebody has changed it.
	givenUp condition = "given_up"
	// hangs: the disk, or its filesystem, doesn't answer.
	hangs condition = "hangs"
)

// conditionOf returns the condition of a volume at a path whose usage was asked for and
// answered with err.
func conditionOf(at pathState, err error) condition {
	switch {
	case !at.mounted:
		return normal
	case at.gone():
		return deviceGone
	case errors.Is(err, context.DeadlineExceeded):
		return hangs
	case at.device:
		return normal
	}
	diskReadOnly, err := isReadOnly(at.number)
	if err == nil && turnedReadOnly(at.mount, diskReadOnly) {
		return givenUp
	}
	return normal
}

// filesystemStats asks once for all mounts of the volume, and not for long.
func (s *Server) filesystemStats(ctx context.Context, at filesystem.MountPoint) ([]*csi.VolumeUsage, error) {
	stats, err := s.cfg.FS.Stats(ctx, at)
	if errors.Is(err, filesystem.ErrNotMounted) {
		return nil, fmt.Errorf("%w: %w", errNotHere, err) // it was there a moment ago
	}
	if err != nil {
		return nil, err
	}
	usage := []*csi.VolumeUsage{{
		Unit:      csi.VolumeUsage_BYTES,
		Total:     stats.TotalBytes,
		Used:      stats.UsedBytes,
		Available: stats.AvailableBytes,
	}}
	if stats.TotalInodes > 0 { // btrfs has no limit to count against
		usage = append(usage, &csi.VolumeUsage{
			Unit:      csi.VolumeUsage_INODES,
			Total:     stats.TotalInodes,
			Used:      stats.UsedInodes,
			Available: stats.FreeInodes,
		})
	}
	return usage, nil
}
