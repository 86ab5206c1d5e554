package loop

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long Unbind waits for users that come and go: udev and
	// blkid look at a device whenever it changes, and a process being started
	// holds its parent's descriptors until it runs its program.
	patience = 3 * time.Second

	// settleTime bounds the wait for a device that is already on its way out.
	settleTime = 10 * time.Second
)

// Unbind takes the file from d. The device is gone from its users when it
// returns nil; ErrBusy when somebody uses it, and then nothing has changed: in
// particular it will not detach itself later. nil if d is not bound any more.
//
// before runs, possibly again after another look, when no user is left to be
// seen and just before the device is unbound; its error ends the attempt. It is
// the caller's to undo when Unbind fails.
func (o Opener) Unbind(d Device, before func() error) error {
	deadline := time.Now().Add(patience)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		held, err := Held(d)
		if err == nil && held.None() {
			err = o.clear(d, before)
			if !errors.Is(err, ErrBusy) {
				return err
			}
			held.Others = append(held.Others, "an unknown user (a mount that no process shows, or another block device)")
		}
		if err != nil && !errors.Is(err, ErrBusy) {
			return err
		}
		if held.Lasting() || time.Now().After(deadline) {
			return fmt.Errorf("%s is held by %s: %w", d.Name(), strings.Join(held.All(), ", "), ErrBusy)
		}
		time.Sleep(pause)
	}
}

// clear unbinds d, provided that nobody else has it open. LOOP_CLR_FD on a device
// with other openers succeeds and makes the device detach itself later; that is
// recognised by the device still answering, and taken back.
func (o Opener) clear(d Device, before func() error) error {
	f, err := o.openBound(d, os.O_RDONLY|unix.O_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s: %w", d.Name(), ErrBusy)
	}
	if err != nil {
		return err
	}
	if f == nil {
		return nil
	}
	err = before()
	if err == nil {
		err = clearOpen(int(f.Fd()))
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("unbind %s: %w", d.Name(), err)
	}
	return waitGone(d)
}

// clearOpen returns nil when the device is on its way out as soon as fd is
// closed, and ErrBusy after it took a lazy detach back.
func clearOpen(fd int) error {
	err := unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
	if err == nil {
		err = keep(fd)
	}
	switch {
	case err == nil:
		return ErrBusy
	case errors.Is(err, unix.ENXIO):
		return nil
	default:
		return err
	}
}

// waitGone waits for the last reference to d to be dropped: a child process that
// is just being started can hold a copy of a descriptor that is closed here.
// sysfs attributes of this kind can't be polled.
func waitGone(d Device) error {
	deadline := time.Now().Add(settleTime)
	for pause := time.Millisecond; ; pause *= 2 {
		same, err := Bound(d)
		if err != nil || !same {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s was unbound but still holds %s after %s", d.Name(), d.File, settleTime)
		}
		time.Sleep(pause)
	}
}
