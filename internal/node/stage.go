package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// NodeStageVolume finds the disk of a volume, makes a filesystem on it if it is
// blank, checks and grows the filesystem, and mounts it at the staging path. A
// volume for block access is only found and proven; nothing is made.
func (s *Server) NodeStageVolume(ctx context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	r, err := parseStage(req)
	if err == nil {
		err = s.stage(ctx, r)
	}
	if err != nil {
		return nil, failure("stage", req.GetVolumeId(), err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (s *Server) stage(ctx context.Context, r stageRequest) error {
	unlock, err := s.lock(ctx, r.volumeID, "")
	if err != nil {
		return err
	}
	defer unlock()
	disk, err := s.awaitDisk(ctx, r.volumeID)
	if err == nil {
		err = s.stageProven(ctx, disk, r)
	}
	if !saysNothingIsLeft(err) {
		return err
	}
	looking, cancel := tidying(ctx)
	defer cancel()
	if s.isStaged(looking, r.volumeID, r.staging) {
		// Or nobody would unstage it before the disk is detached.
		return fmt.Errorf("%w: the volume is staged, but not as it should be: %w", errNotYet, err)
	}
	return err
}

// stageProven stages a disk that is the volume's. A first publication lasts as long as
// its attachment: the kubelet may have staged the volume by it before, and a workload have
// written to it. The quick proof will do only before that.
func (s *Server) stageProven(ctx context.Context, disk blockdev.Disk, r stageRequest) error {
	untouched, err := disk.UntouchedSince(r.firstPublished)
	if err != nil {
		return err
	}
	r.proof = filesystem.Thorough
	if untouched {
		r.proof = filesystem.Quick
	}
	if r.encrypted {
		return s.stageEncrypted(ctx, disk, r)
	}
	return s.stageDisk(ctx, disk, r)
}

// saysNothingIsLeft tells whether the kubelet takes an error for proof that
// nothing is staged, see code. AlreadyExists is the specification's code for what
// is staged otherwise than asked for. The kubelet takes it for proof as well, but
// only of a stage of which it doesn't know whether it succeeded; that one it has
// asked for with the same arguments, since they are all of the PersistentVolume.
// What has become of the volume by itself is never told with that code.
func saysNothingIsLeft(err error) bool {
	switch code(err) {
	case codes.OK, codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Aborted, codes.AlreadyExists:
		return false
	}
	return err != nil
}

// isStaged tells whether something of a stage is there that has to be taken away
// again: the volume's mount at staging, or the mapping of an encrypted one.
func (s *Server) isStaged(ctx context.Context, volumeID, staging string) bool {
	if _, open, err := s.mapping(volumeID); err == nil && open {
		return true
	}
	at, err := s.inspect(staging)
	if err != nil || !at.mounted {
		return false
	}
	disks, err := s.disksOf(ctx, volumeID)
	return err != nil || slices.ContainsFunc(disks, at.holds)
}

// stageState is what a stage finds on the node.
type stageState struct {
	disk blockdev.Disk // on which the data is: the mapping of an encrypted volume
	at   pathState     // the staging path
	use  diskUse       // of the disk, besides at the staging path
	// live: the disk is held. A mount that was left by a disk which was pulled
	// doesn't hold the one that has its number now.
	live bool
	// holders are what else uses the disk, or is built upon it.
	holders []blockdev.Holder
	// readOnly: the disk can't be written to.
	readOnly bool
}

// readStage looks at everything that a stage depends on. It makes the staging path
// of a filesystem.
func (s *Server) readStage(ctx context.Context, disk blockdev.Disk, r stageRequest) (st stageState, err error) {
	st.disk = disk
	if r.block {
		st.at, err = s.inspect(r.staging)
	} else {
		st.at, err = s.inspectOrMake(r.staging, makeDir)
	}
	if err != nil {
		return st, fmt.Errorf("staging path: %w", err)
	}
	if st.use, err = s.useOf(disk, st.at.path); err != nil {
		return st, err
	}
	if st.holders, err = blockdev.Holders(disk); err != nil {
		return st, err
	}
	if st.readOnly, err = isReadOnly(disk.Number); err != nil {
		return st, err
	}
	st.live, err = s.cfg.Finder.Claimed(ctx, disk)
	return st, err
}

// action is what a stage or a publication has to do next.
type action int

const (
	nothing  action = iota // it is there as asked for
	takeAway               // unmount what is at the path
	provide                // mount, bind, or whatever makes it be there
)

// next decides what a stage has to do.
func (st stageState) next(r stageRequest) (action, error) {
	users := blockdev.InUse(st.holders)
	switch {
	case r.block:
		return st.nextBlock(r)
	case st.at.mounted:
		return st.nextMounted(r)
	case len(users) > 0:
		return 0, fmt.Errorf("%w: %s is used by %v", errRefused, st.disk.Path, users)
	case len(st.holders) > 0:
		return 0, builtUpon(st.disk, st.holders)
	case len(st.use.mounts) > 0:
		return 0, fmt.Errorf("%w: %s is mounted at %v", errRefused, st.disk.Path, st.use.mounts)
	case len(st.use.devices) > 0:
		return 0, fmt.Errorf("%w: %s is published as a block device at %v", errRefused, st.disk.Path, st.use.devices)
	case r.encrypted && st.readOnly != r.readOnly:
		return 0, fmt.Errorf("%w: %s is open, %s, but %s is asked for", errPublished, st.disk.Path, access(st.readOnly), access(r.readOnly))
	}
	return provide, nil
}

// nextBlock decides about a volume for block access. A device that is published
// keeps its flag.
func (st stageState) nextBlock(r stageRequest) (action, error) {
	mounted, users := st.at.holds(st.disk), blockdev.InUse(st.holders)
	switch {
	case mounted && st.live:
		return 0, fmt.Errorf("%w: %v, but block access is asked for", errPublished, st.at)
	case mounted:
		return takeAway, nil
	case len(st.use.mounts) > 0:
		return 0, fmt.Errorf("%w: %s is mounted at %v", errRefused, st.disk.Path, st.use.mounts)
	case st.readOnly != r.readOnly && (len(st.use.devices) > 0 || r.encrypted):
		return 0, fmt.Errorf("%w: %s is %s, published at %v, but %s is asked for",
			errPublished, st.disk.Path, access(st.readOnly), st.use.devices, access(r.readOnly))
	case len(users) > 0:
		return 0, fmt.Errorf("%w: %s is used by %v", errRefused, st.disk.Path, users)
	}
	return provide, nil
}

// nextMounted decides about a staging path at which something is mounted. A mount
// whose disk is gone reaches no data any more. A filesystem that the kernel has
// given up is mounted again, and so repaired, as soon as no workload has it.
func (st stageState) nextMounted(r stageRequest) (action, error) {
	mount, targets := st.at.mount, st.use.targets()
	failed := !r.readOnly && turnedReadOnly(mount, st.readOnly)
	switch {
	case !st.at.holds(st.disk) && !st.at.gone():
		return 0, fmt.Errorf("%w: %v, which is not the volume's disk %s (%s)", errRefused, st.at, st.disk.Path, formatNumber(st.disk.Number))
	case !st.at.holds(st.disk), !st.live:
		return takeAway, nil
	case r.fsType != "" && mount.FSType != r.fsType:
		return 0, fmt.Errorf("%w: %v, but %s is asked for", errPublished, st.at, r.fsType)
	case failed && len(targets) == 0:
		return takeAway, nil
	case failed:
		return 0, fmt.Errorf("%w: %v: %w: it is repaired when the workloads that use it at %v have ended", errNotYet, st.at, filesystem.ErrGivenUp, targets)
	case readOnly(mount) != r.readOnly:
		return 0, fmt.Errorf("%w: %v, %s, but %s is asked for", errPublished, st.at, access(readOnly(mount)), access(r.readOnly))
	}
	if difference := cmp.Or(r.difference(mount, filesystem.MountPoint{}), r.filesystemDifference(mount)); difference != "" {
		return 0, fmt.Errorf("%w: %v with other options than asked for: %s", errPublished, st.at, difference)
	}
	return nothing, nil
}

// stageDisk stages the disk that the data is on.
func (s *Server) stageDisk(ctx context.Context, disk blockdev.Disk, r stageRequest) error {
	pinned, err := disk.Pin()
	if err != nil {
		return err
	}
	defer func() { _ = pinned.Close() }() // it was only read
	for range 2 {
		st, err := s.readStage(ctx, disk, r)
		if err != nil {
			return err
		}
		act, err := st.next(r)
		switch {
		case err != nil:
			return err
		case act == nothing:
			return s.finishStaged(ctx, st, r)
		case act == provide:
			return s.provideStage(ctx, st, r)
		}
		logging.From(ctx).Warn("unmounting a staging path whose disk is gone, or whose filesystem the kernel has given up",
			zap.String("volume_id", disk.VolumeID), zap.Stringer("found", st.at))
		if err := s.unmount(ctx, st.at.path); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: something is mounted at %s again and again", errNotYet, r.staging)
}

// finishStaged does what an earlier call may not have come to, for a volume that is
// mounted as asked for.
func (s *Server) finishStaged(ctx context.Context, st stageState, r stageRequest) error {
	if r.readOnly && !st.readOnly { // it was mounted by another driver
		return setReadOnly(st.disk, true)
	}
	if r.readOnly || !filesystem.CanGrowOnline(st.at.mount.FSType) {
		return nil
	}
	_, err := s.cfg.FS.Grow(ctx, st.disk.Path, st.at.path)
	if errors.Is(err, filesystem.ErrOnlineGrowth) {
		return nil // it may be used already, and grows when it is staged next
	}
	return err
}

// provideStage stages a disk that nothing uses. A mkfs or fsck that an earlier call
// has begun still runs when that call has given up, or its process was killed: that
// is waited for.
func (s *Server) provideStage(ctx context.Context, st stageState, r stageRequest) error {
	if !r.block {
		if err := s.awaitUnclaimed(ctx, st.disk); err != nil {
			return fmt.Errorf("%w: %w", errNotYet, err)
		}
	}
	if !r.encrypted { // a mapping has been opened as it is to be used
		if err := setReadOnly(st.disk, r.readOnly); err != nil {
			return err
		}
	}
	if r.block {
		return nil
	}
	fsType, err := s.prepare(ctx, st.disk, r)
	if err != nil {
		return err
	}
	err = s.mountGrown(ctx, st.disk, st.at.path, fsType, r)
	if !errors.Is(err, filesystem.ErrOnlineGrowth) {
		return err
	}
	logging.From(ctx).Info("growing a filesystem unmounted, which the kernel does not grow in use",
		zap.String("volume_id", st.disk.VolumeID), zap.Error(err))
	if err := s.growUnmounted(ctx, st.disk); err != nil {
		return err
	}
	return s.mountGrown(ctx, st.disk, st.at.path, fsType, r)
}

// device is what the filesystem package has to know of a disk, or of the mapping of
// an encrypted one.
func (r stageRequest) device(disk blockdev.Disk) filesystem.Device {
	return filesystem.Device{Path: disk.Path, Owner: disk.VolumeID, Beneath: r.beneath}
}

// prepare leaves the disk with a filesystem that can be mounted, and returns
// its type: the one that is there, or a new one on a disk that is proven blank.
// Anything else is refused and left as it is.
func (s *Server) prepare(ctx context.Context, disk blockdev.Disk, r stageRequest) (fsType string, err error) {
	content, found, err := s.cfg.FS.Recognize(ctx, r.device(disk))
	switch {
	case err != nil:
		return "", err
	case found:
		return content.Type, s.prepareExisting(ctx, disk, content, r)
	case r.readOnly:
		if content, err = s.cfg.FS.Probe(ctx, r.device(disk)); err != nil {
			return "", err
		}
		return "", refusal(disk, content, r)
	}
	fsType, err = s.format(ctx, disk, r)
	var not *filesystem.NotBlankError
	if errors.As(err, &not) {
		return "", refusal(disk, not.Content, r)
	}
	return fsType, err
}

// refusal says why a disk that holds no filesystem gets none, and what a person can
// do about it.
func refusal(disk blockdev.Disk, content filesystem.Content, r stageRequest) error {
	switch {
	case content.Kind != filesystem.Foreign && content.Kind != filesystem.Filesystem && r.readOnly:
		return fmt.Errorf("%w: %s is %s, and a read-only volume is not formatted", errRefused, disk.Path, content.Detail)
	case content.Kind != filesystem.Foreign:
		return fmt.Errorf("%w: %s was something else a moment ago, and is %s now", errNotYet, disk.Path, content.Detail)
	case content.Type != "":
		return fmt.Errorf("%w: %s holds something that is no filesystem of ours: %s; it is left as it is", errRefused, disk.Path, content.Detail)
	}
	return fmt.Errorf("%w: %s holds something that is no filesystem of ours: %s; it is left as it is; if nothing on it is needed, delete it or zero it, or make a filesystem on it by hand, which is then used",
		errRefused, disk.Path, content.Detail)
}

// format makes the filesystem on a disk that FS finds to be blank.
func (s *Server) format(ctx context.Context, disk blockdev.Disk, r stageRequest) (string, error) {
	fsType := r.fsType
	if fsType == "" {
		fsType = s.cfg.DefaultFSType
	}
	options, err := mkfs.Options(fsType, r.context)
	if err != nil {
		return "", err
	}
	if err := disk.Verify(); err != nil {
		return "", err
	}
	logging.From(ctx).Info("no filesystem found: making one if the disk is blank",
		zap.String("volume_id", disk.VolumeID), zap.String("disk", disk.Path), zap.String("fs_type", fsType),
		zap.Bool("quick_proof", r.proof == filesystem.Quick))
	if err := s.cfg.FS.Format(ctx, r.device(disk), r.proof, fsType, options); err != nil {
		return "", err
	}
	return fsType, nil
}

// prepareExisting checks a filesystem and, where this node can't grow it in use,
// makes it as large as its disk: a restored, cloned or extended volume has a
// smaller one. Growth in use is better where there is a choice: the kernel
// journals it, while a resize2fs that dies with its node or container may leave a
// filesystem that takes a person to repair. A filesystem that will be mounted
// read-only is left alone.
func (s *Server) prepareExisting(ctx context.Context, disk blockdev.Disk, content filesystem.Content, r stageRequest) error {
	if r.fsType != "" && content.Type != r.fsType {
		return fmt.Errorf("%w: %s holds %s, but %s is asked for; it is left as it is",
			errRefused, disk.Path, content.Type, r.fsType)
	}
	if r.readOnly {
		return nil
	}
	if err := disk.Verify(); err != nil {
		return err
	}
	if err := s.cfg.FS.Check(ctx, disk.Path, content.Type); err != nil {
		return err
	}
	if filesystem.CanGrowOnline(content.Type) {
		return nil
	}
	return s.growUnmounted(ctx, disk)
}

// growUnmounted grows an ext filesystem that nothing uses.
func (s *Server) growUnmounted(ctx context.Context, disk blockdev.Disk) error {
	if err := disk.Verify(); err != nil {
		return err
	}
	if _, err := s.cfg.FS.Grow(ctx, disk.Path, ""); err != nil {
		return err
	}
	return nil
}

// mountGrown mounts the disk, proves that it is what got mounted, and grows what
// can grow then. A filesystem that can't be grown is unmounted again: a workload
// must not get less than was promised.
func (s *Server) mountGrown(ctx context.Context, disk blockdev.Disk, staging, fsType string, r stageRequest) error {
	if err := disk.Verify(); err != nil {
		return err
	}
	if err := s.cfg.FS.Mount(ctx, disk.Path, staging, fsType, r.stageOptions()); err != nil {
		return err
	}
	if err := s.proveStaging(ctx, disk, staging); err != nil {
		return s.unmountAgain(ctx, staging, err)
	}
	if r.readOnly || !filesystem.CanGrowOnline(fsType) {
		return nil
	}
	if _, err := s.cfg.FS.Grow(ctx, disk.Path, staging); err != nil {
		return s.unmountAgain(ctx, staging, err)
	}
	return nil
}

// proveStaging returns nil if staging is a mount of that very disk.
func (s *Server) proveStaging(ctx context.Context, disk blockdev.Disk, staging string) error {
	at, err := s.inspect(staging)
	if err != nil {
		return err
	}
	live, err := s.cfg.Finder.Claimed(ctx, disk)
	if err != nil {
		return err
	}
	return checkStaging(disk, at, live)
}

// checkStaging returns nil if the path is a mount of that very disk.
func checkStaging(disk blockdev.Disk, at pathState, live bool) error {
	switch {
	case !at.holds(disk):
		return fmt.Errorf("%w: staging path: %v, which is not the volume's disk %s (%s)", errRefused, at, disk.Path, formatNumber(disk.Number))
	case !live:
		return fmt.Errorf("%w: staging path: %v, but of a disk that was there before %s", errRefused, at, disk.Path)
	}
	return nil
}
