package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Modes of what is made for a volume to be mounted on. The kubelet's own
// directories have the same.
const (
	dirMode  = 0o750
	fileMode = 0o640
)

// resolve returns path as the mount table has it, with the links on the way to
// it followed. The last component isn't touched: it may be a mount whose disk
// is gone. A path whose parent doesn't exist is returned as it is.
func resolve(path string) (string, error) {
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err != nil {
		return "", fmt.Errorf("path %s: %w", path, err)
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}

// makeDir makes the directory path and its parents, and refuses anything else
// that is there, a link included.
func makeDir(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%w: %s is no directory", errRefused, path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.MkdirAll(path, dirMode)
}

// makeFile makes the empty file path and its parents, and refuses anything else
// that is there but an empty file.
func makeFile(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().IsRegular() && info.Size() == 0:
		return nil
	case err == nil:
		return fmt.Errorf("%w: %s is no empty file (%v, %d bytes)", errRefused, path, info.Mode(), info.Size())
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, fileMode) // #nosec G304 -- the target
	if err != nil {
		return err
	}
	return f.Close()
}

// removeTarget removes what makeDir or makeFile made. What holds data is left
// and told: it was written to the node's own disk while nothing was mounted.
func removeTarget(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
	case info.Mode().IsRegular() && info.Size() == 0:
	default:
		return fmt.Errorf("%w: %s is not what was made for the volume (%v, %d bytes): look what it is and remove it",
			errRefused, path, info.Mode(), info.Size())
	}
	err = os.Remove(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ENOTEMPTY):
		return fmt.Errorf("%w: %s holds files of the node's own disk: look what they are and remove them", errRefused, path)
	}
	return err
}
