package luks

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is where device-mapper is spoken to.
const control = "/dev/mapper/control"

// dropUnfinished takes away a mapping that was begun and never came to life: its
// cryptsetup was killed in between, together with the container. It has the name
// for itself and may hold the disk, but shows nothing, and cryptsetup can neither
// finish nor close it. A mapping that is alive, or that something else has made,
// is left alone.
func dropUnfinished(title string) error {
	dm, err := os.OpenFile(control, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil // no device-mapper, no mapping
	}
	if err != nil {
		return err
	}
	defer func() { _ = dm.Close() }() // nothing is kept with it
	found, err := mapperCall(dm, unix.DM_DEV_STATUS, title)
	switch {
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOTTY):
		return nil
	case err != nil:
		return fmt.Errorf("ask device-mapper for %s: %w", title, err)
	case found.Flags&unix.DM_ACTIVE_PRESENT_FLAG != 0, !strings.HasPrefix(unix.ByteSliceToString(found.Uuid[:]), "CRYPT-LUKS2-"):
		return nil
	}
	if _, err := mapperCall(dm, unix.DM_DEV_REMOVE, title); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("take away %s, which was never finished: %w", title, err)
	}
	return nil
}

// mapperCall asks device-mapper for something by a mapping's name.
func mapperCall(dm *os.File, request uintptr, title string) (unix.DmIoctl, error) {
	call := unix.DmIoctl{Version: [3]uint32{4, 0, 0}, Data_size: uint32(unsafe.Sizeof(unix.DmIoctl{}))}
	if copy(call.Name[:len(call.Name)-1], title) != len(title) {
		return call, fmt.Errorf("%q is too long a name", title)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, dm.Fd(), request, uintptr(unsafe.Pointer(&call))) // #nosec G103 -- the kernel fills it
	if errno != 0 {
		return call, errno
	}
	return call, nil
}
