package luks

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// nodes is where device-mapper has its devices by their names.
const nodes = "/dev/mapper/"

// removeWait is how long something may have a mapping open for a moment, such as
// udev that looks what appeared.
const removeWait = 5 * time.Second

// remove takes away the mapping with that title, or only one that was begun and
// never came to life: its cryptsetup was killed in between, together with the
// container. That has the name for itself and may hold the disk, but shows
// nothing, and cryptsetup can neither finish nor close it. A mapping that something
// else has made is left alone. The kernel is asked directly: `cryptsetup close`
// reads the header again, from a disk that may hang or lie.
func remove(title string, unfinishedOnly bool) error {
	var about unix.DmIoctl
	if copy(about.Name[:len(about.Name)-1], title) != len(title) {
		return fmt.Errorf("%q is too long a name", title)
	}
	found, err := blockdev.DeviceMapper(unix.DM_DEV_STATUS, about)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOTTY):
		return nil // no such mapping, or no device-mapper
	case err != nil:
		return fmt.Errorf("ask device-mapper for %s: %w", title, err)
	case unfinishedOnly && found.Flags&unix.DM_ACTIVE_PRESENT_FLAG != 0, !strings.HasPrefix(unix.ByteSliceToString(found.Uuid[:]), "CRYPT-LUKS2-"):
		return nil
	}
	_, err = blockdev.DeviceMapper(unix.DM_DEV_REMOVE, about)
	for limit := time.Now().Add(removeWait); errors.Is(err, unix.EBUSY) && time.Now().Before(limit); {
		time.Sleep(50 * time.Millisecond)
		_, err = blockdev.DeviceMapper(unix.DM_DEV_REMOVE, about)
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: something has %s open", filesystem.ErrBusy, title)
	case err != nil && !errors.Is(err, unix.ENXIO):
		return fmt.Errorf("take %s away: %w", title, err)
	}
	// Nobody else removes the node where udev didn't make it.
	if err := os.Remove(nodes + title); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
