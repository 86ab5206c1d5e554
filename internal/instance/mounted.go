package instance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// readMounted mounts device read-only in a new private directory, reads
// meta_data.json and takes both away again, whatever happened.
func readMounted(device, fsType string) (data []byte, err error) {
	dir, err := os.MkdirTemp("", "config-drive-")
	if err != nil {
		return nil, fmt.Errorf("a directory to mount it in: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()

	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount(device, dir, fsType, flags, ""); err != nil {
		return nil, fmt.Errorf("neither ISO 9660 nor %s that can be mounted: %w", fsType, err)
	}
	defer func() {
		if uerr := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); uerr != nil {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w", dir, uerr))
		}
	}()
	return readBounded(filepath.Join(dir, metadataPath))
}

// readBounded reads a regular file of at most maxMetadata bytes.
func readBounded(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) // #nosec G304 -- below our own mount
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxMetadata+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxMetadata {
		return nil, fmt.Errorf("%s is %w", path, errTooLarge)
	}
	return data, nil
}
