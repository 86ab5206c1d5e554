package node

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// prepare leaves the disk with a filesystem that can be mounted, and returns
// its type: the one that is there, or a new one on a disk that is proven blank.
// Anything else is refused and left as it is.
func (s *Server) prepare(ctx context.Context, disk blockdev.Disk, u use) (fsType string, err error) {
	content, err := s.cfg.FS.Probe(ctx, u.device(disk))
	if err != nil {
		return "", err
	}
	s.step("probed")
	switch {
	case content.Kind == filesystem.Filesystem:
		return content.Type, s.prepareExisting(ctx, disk, content, u)
	case content.Kind == filesystem.Foreign, u.readOnly:
		return "", refusal(disk, content, u)
	}
	fsType, err = s.format(ctx, disk, u)
	var not *filesystem.NotBlankError
	if errors.As(err, &not) {
		return "", refusal(disk, not.Content, u)
	}
	return fsType, err
}

// device is what the filesystem package has to know of a disk, or of the mapping of
// an encrypted one.
func (u use) device(disk blockdev.Disk) filesystem.Device {
	return filesystem.Device{Path: disk.Path, Owner: disk.VolumeID, Beneath: u.beneath}
}

// refusal says why a disk that holds no filesystem gets none.
func refusal(disk blockdev.Disk, content filesystem.Content, u use) error {
	switch {
	case content.Kind != filesystem.Foreign && content.Kind != filesystem.Filesystem && u.readOnly:
		return fmt.Errorf("%w: %s is %s, and a read-only volume is not formatted", errRefused, disk.Path, content.Detail)
	case content.Kind != filesystem.Foreign:
		return fmt.Errorf("%w: %s was something else a moment ago, and is %s now", errNotYet, disk.Path, content.Detail)
	}
	return fmt.Errorf("%w: %s holds something that is no filesystem of ours: %s; it is left as it is%s",
		errRefused, disk.Path, content.Detail, remedy(content))
}

// remedy tells a person what to do about a disk that nothing is known of.
func remedy(content filesystem.Content) string {
	if content.Type != "" {
		return ""
	}
	return "; a mkfs that did not survive its node leaves such a disk: if the volume has never been used, delete it or zero it"
}

// format makes the filesystem on a disk that FS finds to be blank.
func (s *Server) format(ctx context.Context, disk blockdev.Disk, u use) (string, error) {
	fsType := u.fsType
	if fsType == "" {
		fsType = s.cfg.DefaultFSType
	}
	options, err := mkfs.Options(fsType, u.context)
	if err != nil {
		return "", err
	}
	if err := disk.Verify(); err != nil {
		return "", err
	}
	logging.From(ctx).Info("no filesystem found: making one if the disk is blank",
		zap.String("volume_id", disk.VolumeID), zap.String("disk", disk.Path), zap.String("fs_type", fsType))
	if err := s.cfg.FS.Format(ctx, u.device(disk), filesystem.Quick, fsType, options); err != nil {
		return "", err
	}
	s.step("formatted")
	return fsType, nil
}

// prepareExisting checks a filesystem and, where this node can't grow it in use,
// makes it as large as its disk: a restored, cloned or extended volume has a
// smaller one. Growth in use is better where there is a choice: the kernel
// journals it, while a resize2fs that dies with its node or container may leave a
// filesystem that takes a person to repair. A filesystem that will be mounted
// read-only is left alone.
func (s *Server) prepareExisting(ctx context.Context, disk blockdev.Disk, content filesystem.Content, u use) error {
	if u.fsType != "" && content.Type != u.fsType {
		return fmt.Errorf("%w: %s holds %s, but %s is asked for; it is left as it is",
			errRefused, disk.Path, content.Type, u.fsType)
	}
	if u.readOnly {
		return nil
	}
	if err := disk.Verify(); err != nil {
		return err
	}
	if err := s.cfg.FS.Check(ctx, disk.Path, content.Type); err != nil {
		return err
	}
	s.step("checked")
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
	s.step("grown")
	return nil
}
