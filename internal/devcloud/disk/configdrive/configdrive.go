// Package configdrive writes the config drive of a server as Nova does: an
// ISO9660 image with Rock Ridge and Joliet names and the volume identifier
// "config-2".
//
// The writer knows just what a config drive needs: a tree of small files whose
// contents are in memory. Every file is there once and has a name in two trees:
// the primary one, with Rock Ridge entries that carry the true names and
// permissions, and the Joliet one.
package configdrive

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Label is the volume identifier by which a server finds its config drive.
const Label = "config-2"

// Write writes an image with these files (path in the image → content) to path,
// which must not exist. Names are 1 to 30 letters, digits, '.', '_' and '-'.
func Write(path string, files map[string][]byte) error {
	image, err := Image(files, time.Now())
	if err != nil {
		return fmt.Errorf("write config drive %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write config drive: %w", err)
	}
	_, err = f.Write(image)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write config drive: %w", err), os.Remove(path))
	}
	return nil
}
