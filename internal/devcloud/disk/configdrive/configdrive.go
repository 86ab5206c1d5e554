// Package configdrive writes the config drive of a server with the content that Nova gives
// it: an ISO 9660 image with Rock Ridge names, which is what Linux goes by, and the volume
// identifier "config-2". Nova's own has Joliet names besides.
package configdrive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

// Label is the volume identifier by which a server finds its config drive.
const Label = "config-2"

// Write writes an image with these files (path in the image → content) to path,
// which must not exist.
func Write(path string, files map[string][]byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write config drive: %w", err)
	}
	if err := errors.Join(write(f, files), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write config drive %s: %w", path, err), os.Remove(path))
	}
	return nil
}

func write(f *os.File, files map[string][]byte) (err error) {
	drive, err := iso9660.Create(file.New(f, false), 0, 0, 0, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drive.Close()) }() // takes its workspace away
	content, err := os.OpenRoot(drive.Workspace())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	for name, data := range files {
		if err := content.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := content.WriteFile(name, data, 0o644); err != nil {
			return err
		}
	}
	return drive.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: Label})
}
