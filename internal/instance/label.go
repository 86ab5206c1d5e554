package instance

import (
	"bytes"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// openDrive opens a drive for reading. One without a medium doesn't wait for it.
func openDrive(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // #nosec G304 -- a device
}

// hasLabel tells whether the filesystem on a drive has the label of a config drive.
func hasLabel(path string) bool {
	f, err := openDrive(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return isLabelled(f)
}

// isLabelled tells whether a filesystem, ISO 9660 or FAT, has the label of a config drive,
// in any letter case.
func isLabelled(r io.ReaderAt) bool {
	start := make([]byte, 512)
	if _, err := r.ReadAt(start, 0); err != nil {
		return false
	}
	if label, ok := isoLabel(r); ok {
		return isDriveLabel(label)
	}
	if start[510] != 0x55 || start[511] != 0xaa {
		return false
	}
	// FAT12 and FAT16, and FAT32.
	return bytes.HasPrefix(start[54:], []byte("FAT")) && isDriveLabel(start[43:54]) ||
		bytes.HasPrefix(start[82:], []byte("FAT")) && isDriveLabel(start[71:82])
}

// isDriveLabel tells whether a label, with its padding, is that of a config drive.
func isDriveLabel(label []byte) bool {
	return strings.EqualFold(strings.TrimRight(string(label), " \x00"), labels()[0])
}

// isoLabel returns the label of an ISO 9660 filesystem; false where there is none.
func isoLabel(r io.ReaderAt) (label []byte, ok bool) {
	sector := make([]byte, sectorSize)
	_, err := r.ReadAt(sector, firstVolume*sectorSize)
	return sector[40:72], err == nil && string(sector[:6]) == "\x01CD001"
}
