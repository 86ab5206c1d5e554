package devcloud

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/store"
)

// release closes the state and the data plane, and removes them where remove
// says so. A start that failed removes nothing: the state directory may be
// another process's.
func (c *Cloud) release(remove bool) error {
	var failures []error
	if c.state != nil {
		failures = append(failures, c.state.Close())
	}
	if c.disks != nil {
		if remove {
			failures = append(failures, c.disks.Wipe())
		}
		failures = append(failures, c.disks.Close())
	}
	if remove && errors.Join(failures...) == nil {
		failures = append(failures, removeState(c.cfg.StateDir))
	}
	return errors.Join(failures...)
}

// Wipe detaches and removes everything that a cloud without a process has left
// in a state directory. It is no error when there is nothing, and one when a
// process still uses it.
func Wipe(stateDir string) error {
	if err := wipe(stateDir); err != nil {
		return fmt.Errorf("devcloud: wipe %s: %w", stateDir, err)
	}
	return removeState(stateDir)
}

func wipe(stateDir string) error {
	database := filepath.Join(stateDir, databaseName)
	if _, err := os.Stat(database); err == nil {
		db, err := store.Open(database) // fails while another process has it
		if err != nil {
			return err
		}
		if err := db.Close(); err != nil {
			return err
		}
	}
	disks := filepath.Join(stateDir, diskDir)
	if _, err := os.Stat(disks); err != nil {
		return nil //nolint:nilerr // there is nothing to wipe
	}
	plane, err := disk.Open(disks)
	if err != nil {
		return err
	}
	return errors.Join(plane.Wipe(), plane.Close())
}

// removeState removes what a cloud has put into its state directory, and the
// directory if nothing else is in it.
func removeState(dir string) error {
	for _, name := range []string{databaseName, diskDir} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("devcloud: %w", err)
		}
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) > 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("devcloud: %w", err)
	}
	return os.Remove(dir)
}
