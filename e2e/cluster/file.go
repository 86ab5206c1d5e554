package cluster

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFile writes a file whole or not at all, with its directory.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // #nosec G301 -- pods with other users look in
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, data, mode); err != nil {
		return err
	}
	return errors.Join(os.Chmod(temp, mode), os.Rename(temp, path))
}

// writeChanged writes a file only where it differs from what is there: a program
// that runs keeps its file, and nodes what they have imported.
func writeChanged(path string, data []byte, mode fs.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return writeFile(path, data, mode)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
