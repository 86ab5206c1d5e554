package node

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// prepare leaves the disk with a filesystem that can be mounted, and returns
// its type: the one that is there, or a new one on a disk that is proven blank.
// Anything else is refused and left as it is. The proof is Format's, which makes
// it right before it writes: none is needed earlier.
func (s *Server) prepare(ctx context.Context, disk blockdev.Disk, u use) (fsType string, err error) {
	content, err := s.cfg.FS.Glance(ctx, disk.Path, u.beneath != nil)
	if err != nil {
		return "", err
	}
	s.step("probed")
	switch content.Kind {
	case filesystem.Filesystem:
		return content.Type, s.prepareExisting(ctx, disk, content, u)
	case filesystem.Unread:
		return s.prepareUnread(ctx, disk, u)
	}
	return "", refusal(disk, content, u)
}

// prepareUnread makes a filesystem on a disk that shows nothing at a glance, or
// tells what it holds all the same.
func (s *Server) prepareUnread(ctx context.Context, disk blockdev.Disk, u use) (fsType string, err error) {
	if !u.readOnly {
		fsType, err = s.format(ctx, disk, u)
		if !errors.Is(err, filesystem.ErrNotBlank) {
			return fsType, err
		}
	}
	content, err := s.probe(ctx, disk, u)
	if err != nil {
		return "", err
	}
	return "", refusal(disk, content, u)
}

// refusal says why a disk that holds no filesystem gets none.
func refusal(disk blockdev.Disk, content filesystem.Content, u use) error {
	switch {
	case content.Kind == filesystem.Blank && u.readOnly:
		return fmt.Errorf("%w: %s is blank, and a read-only volume is not formatted", errRefused, disk.Path)
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

// probe tells what is on a disk, or in the mapping of an encrypted one.
func (s *Server) probe(ctx context.Context, disk blockdev.Disk, u use) (filesystem.Content, error) {
	if u.beneath != nil {
		return s.cfg.FS.ProbeMapping(ctx, disk.Path, *u.beneath)
	}
	return s.cfg.FS.Probe(ctx, disk.Path)
}

// format makes the filesystem on a disk that FS finds to be blank.
func (s *Server) format(ctx context.Context, disk blockdev.Disk, u use) (string, error) {
	fsType := u.fsType
	if fsType == "" {
		fsType = s.cfg.DefaultFSType
	}
	options, err := mkfsOptions(u.context, fsType)
	if err != nil {
		return "", err
	}
	if err := disk.Verify(); err != nil {
		return "", err
	}
	logging.From(ctx).Info("no filesystem found: making one if the disk is blank",
		zap.String("volume_id", disk.VolumeID), zap.String("disk", disk.Path), zap.String("fs_type", fsType))
	if u.beneath != nil {
		err = s.cfg.FS.FormatMapping(ctx, disk.Path, *u.beneath, fsType, options)
	} else {
		err = s.cfg.FS.Format(ctx, disk.Path, fsType, options)
	}
	if err != nil {
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
