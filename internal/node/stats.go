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
		return nil, failure("stats of", req.GetVolumeId(), err)
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
	// Who else uses the disk doesn't matter to whoever only counts.
	here, err := s.present(ctx, req.GetVolumeId())
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
