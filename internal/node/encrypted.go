package node

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/luks"
)

// luksType is what a disk with a LUKS header holds, in libblkid's words.
const luksType = "crypto_LUKS"

// mappingOf returns the mapping that is built upon that very disk.
func (s *Server) mappingOf(disk blockdev.Disk) (m blockdev.Mapping, open bool, err error) {
	m, open, err = s.mapping(disk.VolumeID)
	if err == nil && open {
		open, err = m.On(disk)
	}
	return m, open, err
}

// dataDisk returns what a workload's data is on: the mapping of an encrypted
// volume that is open, else the disk itself.
func (s *Server) dataDisk(disk blockdev.Disk) (data blockdev.Disk, encrypted bool, err error) {
	m, open, err := s.mappingOf(disk)
	if err != nil || !open {
		return disk, false, err
	}
	return m.Disk, true, nil
}

// openDisk returns the mapping of an encrypted volume that has been staged.
func (s *Server) openDisk(disk blockdev.Disk) (blockdev.Disk, error) {
	data, open, err := s.dataDisk(disk)
	if err == nil && !open {
		return disk, fmt.Errorf("%w: the volume is encrypted and not open: it has to be staged first", errRefused)
	}
	return data, err
}

// stageEncrypted stages what an encrypted disk holds, after it has been opened.
// A blank disk is made an encrypted one before. The mapping is staged as a disk
// is, and a volume for block access is the mapping.
func (s *Server) stageEncrypted(ctx context.Context, disk blockdev.Disk, r stageRequest) error {
	if err := s.cfg.Crypt.DropUnfinished(ctx, blockdev.MappingTitle(disk.VolumeID)); err != nil {
		return err
	}
	if err := s.dropStale(ctx, disk, r.staging); err != nil {
		return err
	}
	pinned, err := disk.Pin()
	if err != nil {
		return err
	}
	defer func() { _ = pinned.Close() }() // it was only read
	m, open, err := s.mappingOf(disk)
	if err != nil {
		return err
	}
	if open && m.ReadOnly != r.readOnly {
		return fmt.Errorf("%w: the encrypted volume is open with read-only %t, but %t is asked for", errPublished, m.ReadOnly, r.readOnly)
	}
	made := false
	if !open {
		if made, err = s.readyToOpen(ctx, disk, r); err != nil {
			return err
		}
	}
	// A disk that was proven blank right before its header was made is blank behind it.
	if r.proof = filesystem.Thorough; made {
		r.proof = filesystem.Quick
	}
	// From here on nothing that the disk says of its encryption counts but this copy.
	header, err := s.cfg.Crypt.Read(ctx, disk.Path)
	if err != nil {
		return err
	}
	if open {
		err = s.verifyPassphrase(ctx, header, r)
	} else {
		m, err = s.open(ctx, disk, header, r)
	}
	if err != nil {
		return err
	}
	if err := s.stageOpened(ctx, disk, m.Disk, header, r); err != nil {
		ctx, cancel := tidying(ctx)
		defer cancel()
		return errors.Join(err, s.closeUnused(ctx, disk.VolumeID))
	}
	return nil
}

// verifyPassphrase refuses a volume that is open already to a caller who couldn't
// have opened it.
func (s *Server) verifyPassphrase(ctx context.Context, header luks.Header, r stageRequest) error {
	err := s.cfg.Crypt.Verify(ctx, header, r.passphrase)
	if errors.Is(err, luks.ErrPassphrase) {
		return fmt.Errorf("%w: the encrypted volume was opened by another passphrase than the secret for staging has now: %w", errPublished, err)
	}
	return err
}

// stageOpened stages the mapping of an encrypted disk.
func (s *Server) stageOpened(ctx context.Context, disk, data blockdev.Disk, header luks.Header, r stageRequest) (err error) {
	if !r.readOnly {
		if data, err = s.growMapping(ctx, disk, data, header); err != nil {
			return err
		}
	}
	r.beneath = &filesystem.Beneath{Path: disk.Path, Offset: header.Offset}
	return s.stageDisk(ctx, data, r)
}

// closeUnused closes the mapping of a volume that could not be staged, unless
// something uses it. Whoever was told that nothing is staged detaches the disk
// without another word.
func (s *Server) closeUnused(ctx context.Context, volumeID string) error {
	m, found, err := s.mapping(volumeID)
	if err != nil || !found {
		return err
	}
	if held, err := s.cfg.Finder.Claimed(ctx, m.Disk); err != nil || held {
		return err
	}
	if nodes, err := deviceMounts(m.Disk); err != nil || len(nodes) > 0 {
		return err
	}
	return s.closeMapping(ctx, m)
}

// readyToOpen proves that nothing uses the disk, and leaves it with a LUKS header. It
// reports whether it has made that.
func (s *Server) readyToOpen(ctx context.Context, disk blockdev.Disk, r stageRequest) (made bool, err error) {
	if err := s.checkVacant(disk, r); err != nil {
		return false, err
	}
	if err := s.checkUnused(ctx, disk); err != nil {
		return false, err
	}
	return s.encrypt(ctx, disk, r)
}

// open makes the mapping of a disk, and proves that it is the disk's.
func (s *Server) open(ctx context.Context, disk blockdev.Disk, header luks.Header, r stageRequest) (blockdev.Mapping, error) {
	if err := disk.Verify(); err != nil {
		return blockdev.Mapping{}, err
	}
	err := s.cfg.Crypt.Open(ctx, disk.Path, header, blockdev.MappingTitle(disk.VolumeID), r.passphrase,
		luks.Options{ReadOnly: r.readOnly, Discard: r.discards()})
	if err != nil {
		return blockdev.Mapping{}, err
	}
	m, open, err := s.mappingOf(disk)
	if err == nil && !open {
		err = fmt.Errorf("cryptsetup said it had opened %s, but no mapping of it is there", disk.Path)
	}
	return m, err
}

// checkVacant refuses a staging path at which something is mounted that isn't
// the volume's, before anything is written to a disk.
func (s *Server) checkVacant(disk blockdev.Disk, r stageRequest) error {
	if r.block {
		return nil
	}
	at, err := s.inspectOrMake(r.staging, makeDir)
	if err != nil {
		return fmt.Errorf("staging path: %w", err)
	}
	if at.holds(disk) {
		return fmt.Errorf("%w: %v without encryption, but encryption is asked for", errPublished, at)
	}
	if at.mounted && !at.gone() {
		return fmt.Errorf("%w: %v, and the volume is not even open", errRefused, at)
	}
	return nil
}

// encrypt leaves the disk with a LUKS header: the one that is there, or a new
// one on a disk that is proven blank. Anything else is refused and left as it is. It
// reports whether the header is new.
func (s *Server) encrypt(ctx context.Context, disk blockdev.Disk, r stageRequest) (made bool, err error) {
	on := filesystem.Device{Path: disk.Path, Owner: disk.VolumeID}
	content, err := s.cfg.FS.Probe(ctx, on)
	if err != nil {
		return false, err
	}
	switch {
	case content.Type == luksType && content.Kind != filesystem.Unfinished:
		return false, nil
	case content.Kind != filesystem.Blank && content.Kind != filesystem.Unfinished:
		return false, notToEncrypt(disk, content)
	case r.readOnly:
		return false, fmt.Errorf("%w: %s is blank, and a read-only volume is not encrypted", errRefused, disk.Path)
	}
	if err := disk.Verify(); err != nil {
		return false, err
	}
	logging.From(ctx).Info("encrypting a blank disk", zap.String("volume_id", disk.VolumeID), zap.String("disk", disk.Path))
	err = s.cfg.Crypt.Format(ctx, on, r.proof, r.passphrase)
	var not *filesystem.NotBlankError
	if errors.As(err, &not) {
		return false, notToEncrypt(disk, not.Content)
	}
	return err == nil, err
}

// notToEncrypt says why a disk gets no LUKS header, and what a person can do about it.
func notToEncrypt(disk blockdev.Disk, content filesystem.Content) error {
	return fmt.Errorf("%w: %s is to be encrypted, but holds %s; it is left as it is; if nothing on it is needed, delete the volume or zero it",
		errRefused, disk.Path, content.Detail)
}

// dropStale closes a mapping that is left from a disk which has gone, and
// unmounts staging if that is what is mounted there: no data can be reached by
// either. It refuses when a workload still has it.
func (s *Server) dropStale(ctx context.Context, disk blockdev.Disk, staging string) error {
	m, found, err := s.mapping(disk.VolumeID)
	if err != nil || !found {
		return err
	}
	on, err := m.On(disk)
	if err != nil || on {
		return err
	}
	logging.From(ctx).Warn("closing a mapping whose disk is gone",
		zap.String("volume_id", disk.VolumeID), zap.String("mapping", m.Path))
	at, err := s.inspect(staging)
	if err != nil {
		return err
	}
	if at.holds(m.Disk) {
		if err := s.unmount(ctx, at.path); err != nil {
			return err
		}
	}
	return s.closeMapping(ctx, m)
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
	if _, found, err := s.mapping(m.VolumeID); err != nil || found {
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
		return data, fmt.Errorf("cryptsetup said it succeeded, but the mapping %s has %d bytes, and should have %d",
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

// checkUnused refuses a disk that anything at all uses, before it is written to or
// opened. A mkfs or fsck that an earlier call has begun is waited for.
func (s *Server) checkUnused(ctx context.Context, d blockdev.Disk) error {
	use, err := s.useOf(d, "")
	if err != nil {
		return err
	}
	holders, err := blockdev.Holders(d)
	if err != nil {
		return err
	}
	switch {
	case len(use.targets()) > 0:
		return fmt.Errorf("%w: %s is mounted at %v", errRefused, d.Path, use.targets())
	case len(holders) > 0:
		return builtUpon(d, holders)
	}
	if err := s.awaitUnclaimed(ctx, d); err != nil {
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	return nil
}

// builtUpon refuses a disk that would be written to, upon which the node's udev has
// built devices, or that anything else uses.
func builtUpon(d blockdev.Disk, holders []blockdev.Holder) error {
	return fmt.Errorf("%w: upon %s is built %v: take it away (vgchange -an, mdadm --stop, multipath -f), and keep the node from building it again",
		errRefused, d.Path, holders)
}
