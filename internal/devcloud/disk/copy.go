package disk

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// Copy makes volume dstVolumeID from src; its size is sizeBytes or that of src,
// whichever is larger. A volume that exists already is taken for the result of
// an earlier call and only extended if it is smaller.
func (s *Store) Copy(dstVolumeID string, src Source, sizeBytes int64) error {
	dst := FromVolume(dstVolumeID)
	if err := errors.Join(dst.check(), src.check(), checkSize(sizeBytes)); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if dst == src {
		return fmt.Errorf("copy %s to itself: %w", src, ErrInvalid)
	}
	if err := s.copyFile(dst, src, sizeBytes); err != nil {
		return err
	}
	return s.Extend(dstVolumeID, sizeBytes)
}

// Snapshot keeps what has been written to the volume until now. If the file
// system of the store can not share blocks, and the volume is written to for as
// long as the copy lasts, it fails: the copy would mix times.
func (s *Store) Snapshot(snapshotID, volumeID string) error {
	return s.copyFile(FromSnapshot(snapshotID), FromVolume(volumeID), 0)
}

// Backup copies src, a volume or a snapshot.
func (s *Store) Backup(backupID string, src Source) error {
	if src.Kind == KindBackup {
		return fmt.Errorf("back up %s: %w", src, ErrInvalid)
	}
	return s.copyFile(FromBackup(backupID), src, 0)
}

// copyFile makes the file of dst, at least minSize long, from that of src.
func (s *Store) copyFile(dst, src Source, minSize int64) error {
	if err := errors.Join(dst.check(), src.check()); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	err := s.makeFile(dst, func(f *os.File) error { return s.fill(f, src, minSize) })
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", src, dst, err)
	}
	return nil
}

// Restore replaces the content of an existing volume, which must not be
// attached (ErrInUse), by that of src (a backup, or a snapshot to revert to).
// The volume keeps its size, which must be at least that of src.
func (s *Store) Restore(volumeID string, src Source) error {
	dst := FromVolume(volumeID)
	if err := errors.Join(dst.check(), src.check()); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if src.Kind == KindVolume {
		return fmt.Errorf("restore %s from %s: %w", dst, src, ErrInvalid)
	}
	defer s.volumes.Lock(volumeID)()
	if err := s.restore(dst, src); err != nil {
		return fmt.Errorf("restore %s from %s: %w", dst, src, err)
	}
	return nil
}

func (s *Store) restore(dst, src Source) error {
	if err := s.mustBeDetached(dst); err != nil {
		return err
	}
	size, err := s.Size(dst)
	if err != nil {
		return err
	}
	need, err := s.Size(src)
	if err != nil {
		return err
	}
	if need > size {
		return fmt.Errorf("%d bytes do not fit into %d: %w", need, size, ErrInvalid)
	}
	temp, err := s.writeTemp(KindVolume, func(f *os.File) error { return s.fill(f, src, size) })
	if err != nil {
		return err
	}
	return os.Rename(temp, s.Path(dst))
}

// fill writes the content of src into f, which is empty, and makes it at least
// minSize long.
func (s *Store) fill(f *os.File, src Source, minSize int64) error {
	in, err := os.Open(s.Path(src))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", src, ErrNotFound)
	}
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if src.Kind == KindVolume {
		err = s.fillLive(f, in, src)
	} else {
		_, err = clone(f, in)
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < minSize {
		err = f.Truncate(minSize)
	}
	return err
}

const (
	// A copy of a volume that is written to meanwhile is made again, after a
	// pause that doubles: 7 times within 3 seconds.
	liveAttempts   = 7
	liveFirstPause = 50 * time.Millisecond

	// Time stamps of files advance in steps of up to 10 ms (a kernel of 100 Hz):
	// after this long a write is sure to be seen in them.
	stampStep = 20 * time.Millisecond
)

// fillLive copies a volume, of which there may be writers, so that the copy is
// what the volume was at one moment.
func (s *Store) fillLive(f, in *os.File, src Source) error {
	pause := liveFirstPause
	for attempt := range liveAttempts {
		if attempt > 0 {
			time.Sleep(pause)
			pause *= 2
		}
		before, err := s.quiesce(in, src)
		if err != nil {
			return err
		}
		shared, err := clone(f, in)
		if err != nil {
			return err
		}
		after, err := in.Stat()
		if err != nil {
			return err
		}
		if shared || after.ModTime().Equal(before.ModTime()) && after.Size() == before.Size() {
			return nil
		}
	}
	return fmt.Errorf("%s is being written to and was never still for one copy (%s can not share blocks between files; xfs and btrfs can): %w",
		src, s.dir, ErrInUse)
}

// quiesce brings what users of the volume's devices have written into its file
// and returns the file's state at a time from which a change will show.
func (s *Store) quiesce(in *os.File, src Source) (os.FileInfo, error) {
	attached, err := s.flush(src)
	if err != nil {
		return nil, err
	}
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	if age := time.Since(info.ModTime()); attached && age >= 0 && age < stampStep {
		time.Sleep(stampStep - age)
		return in.Stat()
	}
	return info, nil
}

// flush syncs every loop device of the volume and tells whether there is any.
func (s *Store) flush(src Source) (attached bool, err error) {
	defer s.volumes.Lock(src.ID)()
	devices, err := s.devicesOf(src)
	if err != nil || len(devices) == 0 {
		return false, err
	}
	if err := s.needRoot("flush the devices of " + src.String()); err != nil {
		return true, err
	}
	for _, d := range devices {
		if err := s.loops.Sync(d); err != nil && !errors.Is(err, loop.ErrGone) {
			return true, fmt.Errorf("flush: %w", err)
		}
	}
	return true, nil
}
