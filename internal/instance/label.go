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

// isLabelled tells whether a filesystem has the label of a config drive, in any
// letter case.
func isLabelled(r io.ReaderAt) bool {
	return strings.EqualFold(isoLabel(r), labels()[0]) || strings.EqualFold(fatLabel(r), labels()[0])
}

// isoLabel returns the label of an ISO 9660 filesystem, empty where there is none.
func isoLabel(r io.ReaderAt) string {
	sector := make([]byte, sectorSize)
	if _, err := r.ReadAt(sector, firstVolume*sectorSize); err != nil {
		return ""
	}
	if sector[0] != 1 || string(sector[1:6]) != "CD001" {
		return ""
	}
	return strings.TrimRight(string(sector[40:72]), " \x00")
}

// fatLabel returns the label that the boot sector of a FAT filesystem has. What
// FAT it is decides where.
func fatLabel(r io.ReaderAt) string {
	const length = 11
	sector := make([]byte, 512)
	if _, err := r.ReadAt(sector, 0); err != nil || sector[510] != 0x55 || sector[511] != 0xaa {
		return ""
	}
	for _, place := range []struct{ label, kind int }{{43, 54}, {71, 82}} {
		if bytes.HasPrefix(sector[place.kind:], []byte("FAT")) {
			return strings.TrimRight(string(sector[place.label:place.label+length]), " \x00")
		}
	}
	return ""
}
