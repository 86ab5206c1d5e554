package node

import (
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// NodePublishVolume makes a staged volume appear at the target path: its
// filesystem by a bind mount of the staging path, which is proven to be a mount
// of the volume's disk, or its block device by a bind mount of the device node.
func (s *Server) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	r, err := parsePublish(req)
	if err == nil {
		err = s.publish(ctx, r)
	}
	if err != nil {
		return nil, s.failure("publish", req.GetVolumeId(), err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (s *Server) publish(ctx context.Context, r publishRequest) error {
	unlock, err := s.lock(ctx, r.volumeID, r.target)
	if err != nil {
		return err
	}
	defer unlock()
	disk, err := s.findDisk(ctx, r.volumeID)
	if err != nil {
		return err
	}
	if r.block {
		// Its place may have been given to another disk since it was staged.
		if disk, err = s.cfg.Finder.Refresh(ctx, disk); err != nil {
			return err
		}
	}
	if r.encrypted {
		if disk, err = s.openDisk(disk); err != nil {
			return err
		}
	}
	return s.publishDisk(ctx, disk, r)
}

// publishDisk publishes the disk that the data is on: it looks at the node, does
// what is next, and looks again, until everything is as asked for.
func (s *Server) publishDisk(ctx context.Context, disk blockdev.Disk, r publishRequest) error {
	for bound := false; ; {
		st, err := s.readPublish(ctx, disk, r)
		var act action
		if err == nil {
			act, err = st.next(r)
		}
		if err == nil && bound && act != nothing {
			err = fmt.Errorf("%w: %v, a moment after the volume was bound there", errPublished, st.target)
		}
		switch {
		case err != nil && bound:
			return s.undoPublish(ctx, r.target, err)
		case err != nil || act == nothing:
			return err
		case act == takeAway:
			logging.From(ctx).Warn("unmounting a target whose disk is gone", zap.Stringer("found", st.target))
			err = s.cfg.FS.Unmount(ctx, st.target.path)
		default:
			err, bound = s.bind(ctx, st, r), true
		}
		if err != nil {
			return err
		}
	}
}

// publishState is what a publication finds on the node.
type publishState struct {
	staging, target pathState
	dataState
}

// readPublish looks at everything that a publication depends on.
func (s *Server) readPublish(ctx context.Context, disk blockdev.Disk, r publishRequest) (st publishState, err error) {
	if st.staging, err = s.inspect(r.staging); err != nil {
		return st, err
	}
	if st.target, err = s.inspect(r.target); err != nil {
		return st, err
	}
	st.dataState, err = s.readData(ctx, disk, st.staging.path)
	return st, err
}

// next decides what a publication has to do.
func (st publishState) next(r publishRequest) (action, error) {
	if r.block {
		return st.nextBlock(r)
	}
	mount, at := st.staging.mount, st.target
	if err := checkStaging(st.data, st.staging, st.live); err != nil {
		if at.mounted { // which has to be unpublished, see code
			return 0, fmt.Errorf("%w: %v: %w", errNotYet, at, err)
		}
		return 0, err
	}
	switch {
	case r.fsType != nil && mount.FSType != r.fsType.Name:
		return 0, fmt.Errorf("%w: staging path: %v, but %s is asked for", st.conflictKind(), st.staging, r.fsType.Name)
	case !r.readOnly && turnedReadOnly(mount, st.readOnly):
		return 0, fmt.Errorf("%w: %v: %w: it is repaired when no workload on this node uses the volume any more and it is staged again",
			errNotYet, st.staging, filesystem.ErrGivenUp)
	case readOnly(mount) && !r.readOnly:
		return 0, fmt.Errorf("%w: the volume is staged read-only, but is to be published writable: stage it again for writing", st.conflictKind())
	case r.readersOnly && !readOnly(mount):
		return 0, fmt.Errorf("%w: the volume is staged writable, but is to be published for readers only: stage it again for readers", st.conflictKind())
	case at.holds(st.data) && at.mount.Root == mount.Root:
		return nothing, st.checkTarget(r)
	case at.mounted && !at.device && at.gone():
		return takeAway, nil
	case at.mounted:
		return 0, wrongDisk(st.data, errPublished, at)
	case r.single && len(st.usage.mounts) > 0:
		return 0, fmt.Errorf("%w: the volume is for a single writer and published at %v", errHeld, st.usage.mounts)
	}
	return provide, nil
}

// conflictKind is the kind of error for a request that the volume, as it is staged, can't
// meet: the specification has a code of its own for a volume that is published already.
func (st publishState) conflictKind() error {
	if st.target.holds(st.data) || st.target.is(st.data) {
		return errPublished
	}
	return errOtherwise
}

// checkTarget compares a target, at which the volume is published, with what is
// asked for.
func (st publishState) checkTarget(r publishRequest) error {
	at := st.target
	if readOnly(at.mount) != (r.readOnly || readOnly(st.staging.mount) && !r.block) {
		return fmt.Errorf("%w: %v, %s, but %s is asked for", errPublished, at, access(readOnly(at.mount)), access(r.readOnly))
	}
	if difference := r.difference(at.mount, st.staging.mount); difference != "" && !r.block {
		return fmt.Errorf("%w: %v with other options than asked for: %s", errPublished, at, difference)
	}
	return nil
}

// nextBlock decides what the publication of a device has to do. The mount of a
// device node is no obstacle to writing to the device, so that the disk itself has
// to be read-only where only readers may have it. Whether the volume was staged
// before doesn't matter: all that a stage proves is proven here.
func (st publishState) nextBlock(r publishRequest) (action, error) {
	at := st.target
	switch {
	case len(blockdev.InUse(st.holders)) > 0:
		return 0, fmt.Errorf("%w: %s is used by %v", errHeld, st.data.Path, blockdev.InUse(st.holders))
	case len(st.usage.mounts) > 0 || st.staging.holds(st.data):
		return 0, fmt.Errorf("%w: %s is mounted at %v", st.conflictKind(), st.data.Path, append(st.usage.mounts, st.staging.path))
	case at.mounted && at.device && at.gone():
		return takeAway, nil
	case at.mounted && !at.is(st.data):
		return 0, wrongDisk(st.data, errPublished, at)
	case !r.readOnly && st.readOnly:
		return 0, fmt.Errorf("%w: %s is read-only, since the volume was staged for readers, but is to be published writable", st.conflictKind(), st.data.Path)
	case r.readersOnly && !st.readOnly && len(st.usage.devices) > 0:
		return 0, fmt.Errorf("%w: %s is published for writers at %v, but is to be published for readers only", st.conflictKind(), st.data.Path, st.usage.devices)
	case at.mounted:
		return nothing, st.checkTarget(r)
	case r.single && len(st.usage.devices) > 0:
		return 0, fmt.Errorf("%w: the volume is for a single writer and published at %v", errHeld, st.usage.devices)
	}
	return provide, nil
}

// bind makes the target and binds the volume onto it.
func (s *Server) bind(ctx context.Context, st publishState, r publishRequest) error {
	source, create, options := st.staging.path, makeTargetDir, r.bindOptions()
	if r.block {
		source, create, options = st.data.Path, makeFile, nil
	}
	if r.readersOnly && !st.readOnly { // it was staged by another driver, or not at all
		if err := setReadOnly(st.data, true); err != nil {
			return err
		}
	}
	at, err := s.inspectOrMake(r.target, create)
	if err != nil {
		return fmt.Errorf("target path: %w", err)
	}
	if err = st.data.Verify(); err == nil {
		err = s.cfg.FS.Bind(ctx, source, at.path, r.readOnly, options)
	}
	if err != nil {
		_ = removeTarget(at.path) // or NodeUnpublishVolume has another go at it
	}
	return err
}
