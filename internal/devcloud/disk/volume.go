package disk

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// sector is the unit loop devices count in, in bytes.
const sector = 512

func checkSize(size int64) error {
	if size <= 0 || size%sector != 0 {
		return fmt.Errorf("size of %d bytes is no positive multiple of %d: %w", size, sector, ErrInvalid)
	}
	return nil
}

// Create makes an empty volume of sizeBytes (a positive multiple of 512). A volume
// that exists already must have that very size.
func (s *Store) Create(volumeID string, sizeBytes int64) error {
	dst := FromVolume(volumeID)
	if err := errors.Join(dst.check(), checkSize(sizeBytes)); err != nil {
		return fmt.Errorf("create %s: %w", dst, err)
	}
	err := s.makeFile(dst, func(f *os.File) error { return f.Truncate(sizeBytes) })
	if err != nil {
		return fmt.Errorf("create %s: %w", dst, err)
	}
	size, err := s.Size(dst)
	if err != nil {
		return fmt.Errorf("create %s: %w", dst, err)
	}
	if size != sizeBytes {
		return fmt.Errorf("create %s: it exists with %d bytes, not %d: %w", dst, size, sizeBytes, ErrInvalid)
	}
	return nil
}

// makeFile writes the file of dst under a temporary name and gives it its own
// when it is complete. A file that is there already is left as it is.
func (s *Store) makeFile(dst Source, write func(*os.File) error) error {
	path := s.Path(dst)
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	temp, err := s.writeTemp(dst.Kind, write)
	if err != nil {
		return err
	}
	err = os.Link(temp, path) // unlike a rename, never replaces what came into being meanwhile
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(temp))
}

// writeTemp makes a temporary file beside those of kind, and removes it if write fails.
func (s *Store) writeTemp(kind Kind, write func(*os.File) error) (string, error) {
	f, err := os.CreateTemp(s.kindDir(kind), tempPrefix)
	if err != nil {
		return "", err
	}
	err = write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// Extend makes the volume's file sizeBytes long; it never shrinks one. Where it is
// attached the growth is seen after GrowAttached.
func (s *Store) Extend(volumeID string, sizeBytes int64) error {
	dst := FromVolume(volumeID)
	if err := errors.Join(dst.check(), checkSize(sizeBytes)); err != nil {
		return fmt.Errorf("extend %s: %w", dst, err)
	}
	defer s.volumes.Lock(volumeID)()
	size, err := s.Size(dst)
	if err == nil && size < sizeBytes {
		err = os.Truncate(s.Path(dst), sizeBytes)
	}
	if err != nil {
		return fmt.Errorf("extend %s to %d bytes: %w", dst, sizeBytes, err)
	}
	return nil
}

// DeleteVolume deletes the volume; ErrInUse while it is attached, nil if it is gone.
func (s *Store) DeleteVolume(volumeID string) error {
	src := FromVolume(volumeID)
	if err := src.check(); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	defer s.volumes.Lock(volumeID)()
	if err := s.mustBeDetached(src); err != nil {
		return fmt.Errorf("delete %s: %w", src, err)
	}
	return s.remove(src)
}

// DeleteSnapshot deletes the snapshot; nil if it is gone.
func (s *Store) DeleteSnapshot(snapshotID string) error { return s.remove(FromSnapshot(snapshotID)) }

// DeleteBackup deletes the backup; nil if it is gone.
func (s *Store) DeleteBackup(backupID string) error { return s.remove(FromBackup(backupID)) }

func (s *Store) remove(src Source) error {
	if err := src.check(); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if err := os.Remove(s.Path(src)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", src, err)
	}
	return nil
}

// mustBeDetached returns ErrInUse while any loop device is bound to the file,
// also one that somebody put there by hand.
func (s *Store) mustBeDetached(src Source) error {
	devices, err := s.devicesOf(src)
	if err != nil || len(devices) == 0 {
		return err
	}
	users := make([]string, len(devices))
	for i, d := range devices {
		users[i] = d.Name()
		if a, ok := s.findLoop(d); ok {
			users[i] += " (" + a.Device + " of server " + a.Server + ")"
		}
	}
	return fmt.Errorf("attached as %s: %w", strings.Join(users, ", "), ErrInUse)
}

// devicesOf returns every loop device bound to the file of src.
func (s *Store) devicesOf(src Source) ([]loop.Device, error) {
	all, err := loop.List()
	if err != nil {
		return nil, err
	}
	path := s.Path(src)
	var devices []loop.Device
	for _, d := range all {
		if d.File == path && !d.Deleted {
			devices = append(devices, d)
		}
	}
	return devices, nil
}
