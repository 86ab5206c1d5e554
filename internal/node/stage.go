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
	"github.com/cinder-csi/cinder-csi/internal/luks"
)

// NodeStageVolume finds the disk of a volume, opens it if it is encrypted, makes a
// filesystem on it if it is blank, checks and grows the filesystem, and mounts it at the
// staging path. A volume for block access is only found, proven and opened.
func (s *Server) NodeStageVolume(ctx context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	r, err := parseStage(req, s.cfg.DefaultFSType)
	if err == nil {
		err = s.stage(ctx, r)
	}
	if err != nil {
		return nil, s.failure("stage", req.GetVolumeId(), err)
	}
	s.seen.abnormal.note(r.volumeID, normal)
	return &csi.NodeStageVolumeResponse{}, nil
}

func (s *Server) stage(ctx context.Context, r stageRequest) error {
	unlock, err := s.lock(ctx, r.volumeID, "")
	if err != nil {
		return err
	}
	defer unlock()
	disk, err := s.awaitDisk(ctx, r.volumeID)
	untouched := false
	if err == nil {
		untouched, err = disk.UntouchedSince(r.firstPublished)
	}
	if err == nil {
		err = s.stageDisk(ctx, disk, untouched, r)
	}
	if !impliesNothingStaged(err) {
		return err
	}
	cleanup, cancel := cleanupContext(ctx)
	defer cancel()
	if s.isStaged(cleanup, r.volumeID, r.staging) {
		// Or nobody would unstage it before the disk is detached.
		return fmt.Errorf("%w: the volume is staged, but not as it should be: %w", errNotYet, err)
	}
	return err
}

// impliesNothingStaged tells whether the kubelet takes an error for proof that
// nothing is staged, see code. AlreadyExists is the specification's code for what
// is staged otherwise than asked for. The kubelet takes it for proof as well, but
// only of a stage of which it doesn't know whether it succeeded; that one it has
// asked for with the same arguments, since they are all of the PersistentVolume.
// What has become of the volume by itself is never told with that code.
func impliesNothingStaged(err error) bool {
	switch code(err) {
	case codes.OK, codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Aborted, codes.AlreadyExists:
		return false
	}
	return err != nil
}

// maxSteps is more steps than a stage has: to close the mapping of a disk that is gone,
// to unmount twice, to unlock, to enlarge, and the last one.
const maxSteps = 8

// stageDisk looks at the node, does what is next, and looks again, until the volume is
// staged.
//
// A disk must be proven blank before something is made on it. The quick proof will do for
// an untouched one: for a volume's first publication, until something was written to the
// disk. The publication lasts as long as the attachment: the kubelet may have staged the
// volume by it before, and a workload have written to it.
func (s *Server) stageDisk(ctx context.Context, disk blockdev.Disk, untouched bool, r stageRequest) (err error) {
	pinned, err := disk.Pin()
	if err != nil {
		return err
	}
	defer func() { _ = pinned.Close() }() // it was only read
	if r.encrypted {
		if err := s.cfg.Crypt.DropUnfinished(ctx, blockdev.MappingTitle(disk.VolumeID)); err != nil {
			return err
		}
	}
	st := stageState{disk: disk, proof: filesystem.Thorough}
	if untouched {
		st.proof = filesystem.Quick
	}
	defer func() {
		if err != nil && st.header != nil {
			err = errors.Join(err, s.closeUnused(ctx, disk.VolumeID))
		}
	}()
	for range maxSteps {
		if st, err = s.readStage(ctx, st, r); err != nil {
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
		case act == closeStale:
			err = s.closeStale(ctx, st)
		case act == unlock:
			st, err = s.unlock(ctx, st, r)
		case act == enlarge:
			_, err = s.growMapping(ctx, st.disk, st.data, *st.header)
		case act == takeAway:
			logging.From(ctx).Warn("unmounting a staging path whose disk is gone, or whose filesystem the kernel has given up",
				zap.Stringer("found", st.at))
			err = s.cfg.FS.Unmount(ctx, st.at.path)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: what is at %s changes again and again", errNotYet, r.staging)
}

// stageState is what a stage finds on the node, and knows from its steps.
type stageState struct {
	disk blockdev.Disk // the volume's own
	// mapping shows what an encrypted volume holds, where there is one; open tells that
	// it is built upon the disk, rather than upon one that is gone.
	mapping *blockdev.Mapping
	open    bool
	// header is the one copy of the LUKS header that counts, once it has been read and
	// the passphrase proven.
	header *luks.Header
	proof  filesystem.Proof
	at     pathState // the staging path
	// dataState is of what the data is on: the mapping if that is open, else the disk.
	dataState
}

// readStage looks at everything that a stage depends on. It makes the staging path
// of a filesystem.
func (s *Server) readStage(ctx context.Context, st stageState, r stageRequest) (stageState, error) {
	data, err := s.readMapping(&st, r)
	if err != nil {
		return st, err
	}
	if r.block {
		st.at, err = s.inspect(r.staging)
	} else {
		st.at, err = s.inspectOrMake(r.staging, makeDir)
	}
	if err != nil {
		return st, fmt.Errorf("staging path: %w", err)
	}
	st.dataState, err = s.readData(ctx, data, st.at.path)
	return st, err
}

// readMapping looks at the mapping of an encrypted volume, and returns what the data is on:
// the mapping if that is open, else the disk.
func (s *Server) readMapping(st *stageState, r stageRequest) (data blockdev.Disk, err error) {
	if st.open = false; !r.encrypted {
		return st.disk, nil
	}
	if st.mapping, err = s.mapping(st.disk.VolumeID); err == nil && st.mapping != nil {
		st.open, err = st.mapping.On(st.disk)
	}
	if err == nil && st.open {
		return st.mapping.Disk, nil
	}
	return st.disk, err
}

// device is what the filesystem package has to know of what the data is on.
func (st stageState) device() filesystem.Device {
	on := filesystem.Device{Path: st.data.Path, Owner: st.disk.VolumeID}
	if st.header != nil {
		on.Beneath = &filesystem.Beneath{Path: st.disk.Path, Offset: st.header.Offset}
	}
	return on
}

// action is what a stage or a publication has to do next.
type action int

const (
	nothing    action = iota // it is there as asked for
	takeAway                 // unmount what is at the path
	provide                  // mount, bind, or whatever makes it be there
	closeStale               // close the mapping of a disk that is gone
	unlock                   // open an encrypted volume, or prove the passphrase of an open one
	enlarge                  // make the mapping as large as its disk
)

// String says what it does to a path.
func (a action) String() string {
	return map[action]string{
		nothing: "nothing, it is as it should be", takeAway: "unmount it, and stage the volume anew", provide: "stage the volume",
		closeStale: "close the mapping of a disk that is gone, and stage the volume anew", unlock: "prove the passphrase", enlarge: "grow the mapping",
	}[a]
}

// next decides what a stage has to do.
func (st stageState) next(r stageRequest) (action, error) {
	switch {
	case st.mapping != nil && !st.open:
		return closeStale, nil
	case r.encrypted && !st.open:
		return st.nextLocked(r)
	case r.encrypted && st.readOnly != r.readOnly:
		return 0, fmt.Errorf("%w: the encrypted volume is open and %s, but %s is asked for", errPublished, access(st.readOnly), access(r.readOnly))
	case r.encrypted && st.header == nil:
		return unlock, nil
	case r.encrypted && !r.readOnly && st.data.Size < st.header.Mapped(st.disk.Size):
		return enlarge, nil
	case r.block:
		return st.nextBlock(r)
	case st.at.mounted:
		return st.nextMounted(r)
	case len(blockdev.InUse(st.holders)) > 0:
		return 0, fmt.Errorf("%w: %s is used by %v", errHeld, st.data.Path, blockdev.InUse(st.holders))
	case len(st.holders) > 0:
		return 0, builtUpon(st.data, st.holders)
	case len(st.usage.mounts) > 0:
		return 0, fmt.Errorf("%w: %s is mounted at %v", errHeld, st.data.Path, st.usage.mounts)
	case len(st.usage.devices) > 0:
		return 0, fmt.Errorf("%w: %s is published as a block device at %v", errHeld, st.data.Path, st.usage.devices)
	}
	return provide, nil
}

// nextLocked decides about an encrypted volume that isn't open. Before anything is
// written to its disk, nothing may use that, and nothing else be mounted at the staging
// path.
func (st stageState) nextLocked(r stageRequest) (action, error) {
	targets := st.usage.targets()
	if r.block && st.at.holds(st.disk) {
		targets = append(targets, st.at.path)
	}
	switch {
	case st.header != nil:
		return 0, fmt.Errorf("cryptsetup reported success for %s, but there is no mapping of it", st.disk.Path)
	case !r.block && st.at.holds(st.disk):
		return 0, fmt.Errorf("%w: %v without encryption, but encryption is asked for", errPublished, st.at)
	case !r.block && st.at.mounted && st.at.gone():
		return takeAway, nil
	case !r.block && st.at.mounted:
		return 0, fmt.Errorf("%w: %v, but the encrypted volume is not open", errOtherwise, st.at)
	case len(targets) > 0:
		return 0, fmt.Errorf("%w: %s is mounted at %v", errHeld, st.disk.Path, targets)
	case len(st.holders) > 0:
		return 0, builtUpon(st.disk, st.holders)
	}
	return unlock, nil
}

// nextBlock decides about a volume for block access. A device that is published
// keeps its flag.
func (st stageState) nextBlock(r stageRequest) (action, error) {
	mounted, users := st.at.holds(st.data), blockdev.InUse(st.holders)
	switch {
	case mounted && st.live:
		return 0, fmt.Errorf("%w: %v, but block access is asked for", errPublished, st.at)
	case mounted:
		return takeAway, nil
	case len(st.usage.mounts) > 0:
		return 0, fmt.Errorf("%w: %s is mounted at %v", errHeld, st.data.Path, st.usage.mounts)
	case st.readOnly != r.readOnly && len(st.usage.devices) > 0:
		return 0, fmt.Errorf("%w: %s is %s, published at %v, but %s is asked for",
			errPublished, st.data.Path, access(st.readOnly), st.usage.devices, access(r.readOnly))
	case len(users) > 0:
		return 0, fmt.Errorf("%w: %s is used by %v", errHeld, st.data.Path, users)
	}
	return provide, nil
}

// nextMounted decides about a staging path at which something is mounted. A mount
// whose disk is gone reaches no data any more. A filesystem that the kernel has
// given up is mounted again, and so repaired, as soon as no workload has it.
func (st stageState) nextMounted(r stageRequest) (action, error) {
	mount, targets := st.at.mount, st.usage.targets()
	failed := !r.readOnly && turnedReadOnly(mount, st.readOnly)
	switch {
	case !st.at.holds(st.data) && !st.at.gone():
		return 0, wrongDisk(st.data, errOtherwise, st.at)
	case !st.at.holds(st.data), !st.live:
		return takeAway, nil
	case r.fsType != nil && mount.FSType != r.fsType.Name:
		return 0, fmt.Errorf("%w: %v, but %s is asked for", errPublished, st.at, r.fsType.Name)
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

// closeStale closes a mapping that is left from a disk which has gone, and
// unmounts staging if that is what is mounted there: no data can be reached by
// either. It refuses when a workload still has it.
func (s *Server) closeStale(ctx context.Context, st stageState) error {
	logging.From(ctx).Warn("closing a mapping whose disk is gone", zap.String("device", st.mapping.Path))
	if st.at.holds(st.mapping.Disk) {
		if err := s.cfg.FS.Unmount(ctx, st.at.path); err != nil {
			return err
		}
	}
	return s.closeMapping(ctx, *st.mapping)
}

// unlock opens an encrypted volume. A blank disk is made an encrypted one before. Of one
// that is open already it only proves that the caller could have opened it.
func (s *Server) unlock(ctx context.Context, st stageState, r stageRequest) (stageState, error) {
	made := false
	if !st.open {
		err := s.awaitUnclaimed(ctx, st.disk)
		if err != nil {
			return st, fmt.Errorf("%w: %w", errNotYet, err)
		}
		if made, err = s.encrypt(ctx, st, r); err != nil {
			return st, err
		}
	}
	// From here on nothing that the disk says of its encryption counts but this copy.
	header, err := s.cfg.Crypt.Read(ctx, st.disk.Path)
	if err != nil {
		return st, err
	}
	if st.open {
		err = s.cfg.Crypt.Verify(ctx, header, r.passphrase)
		if errors.Is(err, luks.ErrPassphrase) {
			err = fmt.Errorf("%w: the encrypted volume was opened by another passphrase than the secret for staging has now: %w", errPublished, err)
		}
	} else if err = st.disk.Verify(); err == nil {
		err = s.cfg.Crypt.Open(ctx, st.disk.Path, header, blockdev.MappingTitle(st.disk.VolumeID), r.passphrase,
			luks.Options{ReadOnly: r.readOnly, Discard: r.discards()})
	}
	if err != nil {
		return st, err
	}
	// A disk that was proven blank right before its header was made is blank behind it.
	if st.header, st.proof = &header, filesystem.Thorough; made {
		st.proof = filesystem.Quick
	}
	return st, nil
}

// encrypt leaves the disk with a LUKS header: the one that is there, or a new
// one on a disk that is proven blank. Anything else is refused and left as it is. It
// reports whether the header is new.
func (s *Server) encrypt(ctx context.Context, st stageState, r stageRequest) (made bool, err error) {
	content, err := s.cfg.FS.Probe(ctx, st.device())
	switch {
	case err != nil:
		return false, err
	case content.Type == luksType && content.Kind != filesystem.Unfinished:
		return false, nil
	case content.Kind != filesystem.Blank && content.Kind != filesystem.Unfinished:
		return false, notToEncrypt(st.disk, content)
	case r.readOnly:
		return false, fmt.Errorf("%w: %s is blank, and a read-only volume is not encrypted", errReadOnly, st.disk.Path)
	}
	if err := st.disk.Verify(); err != nil {
		return false, err
	}
	logging.From(ctx).Info("encrypting a blank disk", zap.String("device", st.disk.Path))
	err = s.cfg.Crypt.Format(ctx, st.device(), st.proof, r.passphrase)
	var not *filesystem.NotBlankError
	if errors.As(err, &not) {
		return false, notToEncrypt(st.disk, not.Content)
	}
	return err == nil, err
}

// luksType is what a disk with a LUKS header holds, in libblkid's words.
const luksType = "crypto_LUKS"

// notToEncrypt says why a disk gets no LUKS header, and what a person can do about it.
func notToEncrypt(disk blockdev.Disk, content filesystem.Content) error {
	return fmt.Errorf("%w: %s is to be encrypted, but holds %s; it is left as it is; if nothing on it is needed, delete the volume or zero it",
		errNotBlank, disk.Path, content.Detail)
}

// closeUnused closes the mapping of a volume that could not be staged, unless
// something uses it. Whoever was told that nothing is staged detaches the disk
// without another word.
func (s *Server) closeUnused(ctx context.Context, volumeID string) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	m, err := s.mapping(volumeID)
	if err != nil || m == nil {
		return err
	}
	if held, err := s.cfg.Finder.Claimed(ctx, m.Disk); err != nil || held {
		return err
	}
	if nodes, err := deviceMounts(m.Disk); err != nil || len(nodes) > 0 {
		return err
	}
	return s.closeMapping(ctx, *m)
}

// finishStaged does what an earlier call may not have come to, for a volume that is
// mounted as asked for.
func (s *Server) finishStaged(ctx context.Context, st stageState, r stageRequest) error {
	switch {
	case r.readOnly && st.readOnly:
		return nil
	case r.readOnly: // it was mounted by another driver
		return setReadOnly(st.data, true)
	}
	_, err := s.cfg.FS.Grow(ctx, st.data.Path, st.at.path)
	if errors.Is(err, filesystem.ErrOnlineGrowth) {
		return nil // it may be used already, and grows when it is staged next
	}
	return err
}

// provideStage stages what nothing uses. A mkfs or fsck that an earlier call
// has begun still runs when that call has given up, or its process was killed: that
// is waited for.
func (s *Server) provideStage(ctx context.Context, st stageState, r stageRequest) error {
	if r.encrypted { // a mapping has been opened as it is to be used
		pinned, err := st.data.Pin()
		if err != nil {
			return err
		}
		defer func() { _ = pinned.Close() }() // it was only read
	}
	if !r.block {
		if err := s.awaitUnclaimed(ctx, st.data); err != nil {
			return fmt.Errorf("%w: %w", errNotYet, err)
		}
	}
	if !r.encrypted {
		if err := setReadOnly(st.data, r.readOnly); err != nil {
			return err
		}
	}
	if r.block {
		return nil
	}
	has, err := s.prepare(ctx, st, r)
	if err != nil {
		return err
	}
	err = s.mountGrown(ctx, st, has, r)
	if !errors.Is(err, filesystem.ErrOnlineGrowth) {
		return err
	}
	logging.From(ctx).Info("growing a filesystem unmounted, which the kernel does not grow in use", zap.Error(err))
	if err := s.growUnmounted(ctx, st.data); err != nil {
		return err
	}
	return s.mountGrown(ctx, st, has, r)
}

// prepare leaves the disk with a filesystem that can be mounted, and returns its type:
// the one that is there, checked unless nothing may be written, or a new one on a disk
// that FS proves to be blank. Anything else is refused and left as it is.
func (s *Server) prepare(ctx context.Context, st stageState, r stageRequest) (*filesystem.Type, error) {
	var content filesystem.Content
	var err error
	if r.readOnly {
		content, err = s.cfg.FS.Probe(ctx, st.device())
	} else { // what else the disk holds, Format says
		content, err = s.cfg.FS.Recognize(ctx, st.device())
	}
	switch has := content.Filesystem; {
	case err != nil:
		return nil, err
	case has != nil && r.fsType != nil && has.Name != r.fsType.Name:
		return nil, fmt.Errorf("%w: %s holds %s, but %s is asked for; it is left as it is", errNotBlank, st.data.Path, has.Name, r.fsType.Name)
	case has != nil && r.readOnly:
		return has, nil
	case r.readOnly:
		return nil, refusal(st.data, content, r)
	case has != nil:
		return has, s.checkGrown(ctx, st.data, has)
	case r.optionsErr != nil:
		return nil, r.optionsErr
	}
	if err := st.data.Verify(); err != nil {
		return nil, err
	}
	logging.From(ctx).Info("no filesystem found: making one if the disk is blank",
		zap.String("device", st.data.Path), zap.String("fsType", r.fresh.Name), zap.Bool("quickProof", st.proof == filesystem.Quick))
	err = s.cfg.FS.Format(ctx, st.device(), st.proof, r.fresh, r.options)
	var not *filesystem.NotBlankError
	if errors.As(err, &not) {
		return nil, refusal(st.data, not.Content, r)
	}
	return r.fresh, err
}

// refusal says why a disk that holds no filesystem gets none, and what a person can
// do about it.
func refusal(disk blockdev.Disk, content filesystem.Content, r stageRequest) error {
	switch {
	case content.Kind != filesystem.Foreign && content.Kind != filesystem.Filesystem && r.readOnly:
		return fmt.Errorf("%w: %s is %s, and a read-only volume is not formatted", errReadOnly, disk.Path, content.Detail)
	case content.Kind != filesystem.Foreign:
		return fmt.Errorf("%w: the content of %s changed while it was read, it is %s now", errNotYet, disk.Path, content.Detail)
	case content.Type != "":
		return fmt.Errorf("%w: %s holds no filesystem that the driver supports: %s; it is left as it is", errNotBlank, disk.Path, content.Detail)
	}
	return fmt.Errorf("%w: %s holds no filesystem that the driver supports: %s; it is left as it is; if nothing on it is needed, delete the volume or zero it, or make a filesystem on it by hand, which is then used",
		errNotBlank, disk.Path, content.Detail)
}

// checkGrown checks a filesystem and, where this node can't grow it in use,
// makes it as large as its disk: a restored, cloned or extended volume has a
// smaller one. Growth in use is better where there is a choice: the kernel
// journals it, while a resize2fs that dies with its node or container may leave a
// filesystem that takes a person to repair.
func (s *Server) checkGrown(ctx context.Context, disk blockdev.Disk, has *filesystem.Type) error {
	if err := disk.Verify(); err != nil {
		return err
	}
	if err := s.cfg.FS.Check(ctx, disk.Path, has); err != nil || has.GrowsOnline() {
		return err
	}
	return s.growUnmounted(ctx, disk)
}

// growUnmounted grows a filesystem that nothing uses.
func (s *Server) growUnmounted(ctx context.Context, disk blockdev.Disk) error {
	if err := disk.Verify(); err != nil {
		return err
	}
	_, err := s.cfg.FS.Grow(ctx, disk.Path, "")
	return err
}

// mountGrown mounts the disk, proves that it is what got mounted, and grows what
// can grow then. A filesystem that can't be grown is unmounted again: a workload
// must not get less than was promised.
func (s *Server) mountGrown(ctx context.Context, st stageState, has *filesystem.Type, r stageRequest) error {
	if err := st.data.Verify(); err != nil {
		return err
	}
	if err := s.cfg.FS.Mount(ctx, st.data.Path, st.at.path, has, r.stageOptions()); err != nil {
		return err
	}
	at, err := s.inspect(st.at.path)
	if err == nil {
		st.live, err = s.cfg.Finder.Claimed(ctx, st.data)
	}
	if err == nil {
		err = checkStaging(st.data, at, st.live)
	}
	if err == nil && !r.readOnly {
		_, err = s.cfg.FS.Grow(ctx, st.data.Path, at.path)
	}
	if err != nil {
		return s.unmountAgain(ctx, st.at.path, err)
	}
	return nil
}

// isStaged tells whether something of a stage is there that has to be taken away
// again: the volume's mount at staging, or the mapping of an encrypted one.
func (s *Server) isStaged(ctx context.Context, volumeID, staging string) bool {
	at, err := s.inspect(staging)
	here, herr := s.present(ctx, volumeID)
	return here.mapping != nil || err == nil && at.mounted && (herr != nil || slices.ContainsFunc(here.disks, at.holds))
}
