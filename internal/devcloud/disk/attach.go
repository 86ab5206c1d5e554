package disk

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// Attach attaches the volume to a server and returns the device as the server
// would name it ("/dev/vdb"). A repeated call returns the same device.
// ErrNotFound if there is no such volume or server.
func (s *Store) Attach(server, volumeID string, readOnly bool) (device string, err error) {
	device, err = s.attach(server, volumeID, readOnly)
	if err != nil {
		return "", fmt.Errorf("attach volume %s to server %s: %w", volumeID, server, err)
	}
	return device, nil
}

func (s *Store) attach(server, volumeID string, readOnly bool) (string, error) {
	src := FromVolume(volumeID)
	if err := errors.Join(src.check(), checkServer(server)); err != nil {
		return "", err
	}
	if err := s.needRoot("attach"); err != nil {
		return "", err
	}
	defer s.volumes.Lock(volumeID)()
	if a, ok, err := s.present(server, volumeID); err != nil || ok {
		return s.again(a, readOnly, err)
	}
	if _, err := s.Size(src); err != nil {
		return "", err
	}
	a, err := s.reserve(server, volumeID, readOnly)
	if err != nil {
		return "", err
	}
	d, err := s.loops.Bind(s.Path(src), label(filepath.Base(a.Device), server, volumeID), readOnly)
	if err != nil {
		s.forget(a)
		return "", err
	}
	a = s.settle(a, d)
	if err := s.publish(a); err != nil {
		return "", errors.Join(err, s.take(a)) // nobody has seen it yet
	}
	return a.Device, nil
}

// again answers a repeated Attach, completing the device directory if need be.
func (s *Store) again(a *attachment, readOnly bool, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if a.ReadOnly != readOnly {
		return "", fmt.Errorf("it is attached there with read-only=%t: %w", a.ReadOnly, ErrInvalid)
	}
	return a.Device, s.publish(a)
}

// present returns the attachment, if its loop device is still bound. One that was
// taken away by somebody else is forgotten. The caller holds the volume's lock.
func (s *Store) present(server, volumeID string) (*attachment, bool, error) {
	a, ok := s.find(server, volumeID)
	if !ok {
		return nil, false, nil
	}
	bound, err := loop.Bound(a.loop)
	if err != nil || bound {
		return a, bound, err
	}
	if err := s.retract(a); err != nil {
		return nil, false, err
	}
	s.forget(a)
	return nil, false, nil
}

// Detach takes the volume from the server: ErrInUse, naming the holders, while
// the device is mounted, open or used by another device. nil if it is not
// attached there.
func (s *Store) Detach(server, volumeID string) error {
	if err := errors.Join(FromVolume(volumeID).check(), checkServer(server)); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	err := s.needRoot("detach")
	if err == nil {
		err = s.detach(server, volumeID)
	}
	if err != nil {
		return fmt.Errorf("detach volume %s from server %s: %w", volumeID, server, err)
	}
	return nil
}

func (s *Store) detach(server, volumeID string) error {
	defer s.volumes.Lock(volumeID)()
	a, ok, err := s.present(server, volumeID)
	if err != nil || !ok {
		return err
	}
	return s.take(a)
}

// take unbinds the attachment's device, which leaves its server's sight only when
// no user of it can be seen; if there turns out to be one, it comes back.
func (s *Store) take(a *attachment) error {
	err := s.loops.Unbind(a.loop, func() error { return s.retract(a) })
	if err != nil {
		return errors.Join(inUse(err), s.publish(a))
	}
	err = s.retract(a) // in case it was unbound by somebody else
	s.forget(a)        // from here on its name is another's
	return err
}

// inUse turns the loop package's word for it into this package's.
func inUse(err error) error {
	if errors.Is(err, loop.ErrBusy) {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return err
}

// GrowAttached tells every loop device of the volume the size of its file.
func (s *Store) GrowAttached(volumeID string) error {
	src := FromVolume(volumeID)
	if err := src.check(); err != nil {
		return fmt.Errorf("grow: %w", err)
	}
	defer s.volumes.Lock(volumeID)()
	devices, err := s.devicesOf(src)
	if err == nil && len(devices) > 0 {
		err = s.needRoot("grow")
	}
	if err != nil {
		return fmt.Errorf("grow the devices of %s: %w", src, err)
	}
	for _, d := range devices {
		if err := s.loops.Grow(d); err != nil && !errors.Is(err, loop.ErrGone) {
			return fmt.Errorf("grow the devices of %s: %w", src, err)
		}
	}
	return nil
}
