package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// Wipe detaches everything and removes the store: its own files, and the
// directory if nothing else is in it. What is in use stays attached; then no file
// is removed and ErrInUse tells what is held by whom. The store must be opened
// again after a Wipe that succeeded.
func (s *Store) Wipe() error {
	err := s.needRoot("detach")
	if err == nil {
		err = s.detachAll()
	}
	if err == nil {
		err = s.noMountsBelow(s.dir)
	}
	if err == nil {
		err = s.removeAll()
	}
	if err != nil {
		return fmt.Errorf("wipe the disk store %s: %w", s.dir, err)
	}
	return nil
}

// detachAll takes every loop device off the store's files, also those that
// somebody else put there.
func (s *Store) detachAll() error {
	var errs []error
	for _, a := range s.Attachments() {
		errs = append(errs, s.Detach(a.Server, a.VolumeID))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	devices, err := loop.List()
	if err != nil {
		return err
	}
	for _, d := range devices {
		if strings.HasPrefix(d.File, s.dir+"/") {
			errs = append(errs, inUse(s.loops.Unbind(d, func() error { return nil })))
		}
	}
	return errors.Join(errs...)
}

// removeAll removes what belongs to the store and nothing else: the directory may
// have been one with other things in it.
func (s *Store) removeAll() error {
	for _, server := range s.Servers() {
		if err := s.dropServer(server); err != nil {
			return err
		}
	}
	for _, kind := range []Kind{KindVolume, KindSnapshot, KindBackup} {
		ids, err := s.List(kind)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := s.remove(Source{kind, id}); err != nil {
				return err
			}
		}
	}
	if err := s.sweepTemps(); err != nil {
		return err
	}
	for _, part := range append(parts(), marker, "") {
		err := os.Remove(filepath.Join(s.dir, part))
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) {
			return nil // other things are in it, or it is a mount: it stays
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
