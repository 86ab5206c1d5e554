package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
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
	if err := checkVolumeID(req.GetVolumeId()); err != nil {
		return nil, err
	}
	path, err := checkVolumePath(req.GetVolumePath())
	if err != nil {
		return nil, err
	}
	at, err := s.inspectVolume(path)
	if err != nil {
		return nil, err
	}
	disk, err := s.cfg.Finder.Find(ctx, req.GetVolumeId())
	if errors.Is(err, blockdev.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", errNotHere, err)
	}
	if err != nil {
		return nil, err
	}
	data, _, err := s.dataDisk(disk)
	if err != nil {
		return nil, err
	}
	switch {
	case at.device && at.number == data.Number:
		return []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: data.Size}}, nil
	case at.holds(data):
		return s.filesystemStats(ctx, at.mount)
	}
	return nil, fmt.Errorf("%w: %v, which is not the volume's disk %s (%s)", errNotHere, at, data.Path, formatNumber(data.Number))
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
