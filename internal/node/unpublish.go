package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// NodeUnpublishVolume unmounts the target path and removes it. It succeeds when
// there is nothing left to do, and needs no disk for it. It writes nothing back
// itself: NodeUnstageVolume does, and a pod on storage that hangs can be removed.
func (s *Server) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := s.unpublish(ctx, req); err != nil {
		return nil, failure("unpublish", req.GetVolumeId(), err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (s *Server) unpublish(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) error {
	target, err := checkVolume(req.GetVolumeId(), "target_path", req.GetTargetPath())
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, req.GetVolumeId(), target)
	if err != nil {
		return err
	}
	defer unlock()
	if target, err = resolve(target); err != nil {
		return err
	}
	at, err := s.inspect(target)
	if err != nil {
		return err
	}
	if at.mounted {
		if err := s.checkNotForeign(ctx, req.GetVolumeId(), at); err != nil {
			return err
		}
		if err := s.unmount(ctx, target); err != nil {
			return err
		}
	}
	return removeTarget(target)
}

// identifyTime is how long it may take to find out whose disk is at a target.
const identifyTime = time.Second

// checkNotForeign refuses a target that is known to be another volume's. A workload
// whose disk is gone, or doesn't answer, must be able to end: then nothing is known.
func (s *Server) checkNotForeign(ctx context.Context, volumeID string, at pathState) error {
	ctx, cancel := context.WithTimeout(ctx, identifyTime)
	defer cancel()
	disks, err := s.disksOf(ctx, volumeID)
	if err != nil {
		logging.From(ctx).Debug("unpublish: the disks of the volume are not known", zap.String("volume_id", volumeID), zap.Error(err))
		return nil
	}
	mapping, open, err := s.mapping(volumeID)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	if open {
		disks = append(disks, mapping.Disk)
	}
	if !s.foreign(ctx, at, disks) {
		return nil
	}
	return fmt.Errorf("%w: %v, which is not the volume's disk %s (%s)", errRefused, at, disks[0].Path, formatNumber(disks[0].Number))
}

// busyWait is how long an unmount is tried while the mount is in use. A process
// that is just ending keeps it for some milliseconds; to send the caller away
// for that costs the seconds until it comes back.
const busyWait = 2 * time.Second

// unmount takes away all that is mounted at path. It gives up when the mount
// stays in use; it never detaches what is still written to.
func (s *Server) unmount(ctx context.Context, path string) error {
	limit := time.NewTimer(busyWait)
	defer limit.Stop()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := s.cfg.FS.Unmount(ctx, path)
		if !errors.Is(err, filesystem.ErrBusy) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-limit.C:
			return err
		case <-time.After(pause):
		}
	}
}

// tidyTime is how long a call that has failed may go on taking back what it has
// made, when its own time is up: a disk that hangs must not keep the volume's lock.
const tidyTime = 30 * time.Second

// tidying returns the context for that.
func tidying(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
}

// unmountAgain unmounts what this call has mounted and that isn't as it should be
// for the reason err.
func (s *Server) unmountAgain(ctx context.Context, path string, err error) error {
	ctx, cancel := tidying(ctx)
	defer cancel()
	return errors.Join(err, s.unmount(ctx, path))
}
