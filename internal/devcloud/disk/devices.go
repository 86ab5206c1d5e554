package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// linkIDLength is how much of a volume's id a virtio disk can carry as serial.
const linkIDLength = 20

// deviceName returns the n-th name of a virtio disk: vda, vdb … vdz, vdaa.
func deviceName(n int) string {
	var letters []byte
	for n++; n > 0; n = (n - 1) / 26 {
		letters = append([]byte{byte('a' + (n-1)%26)}, letters...)
	}
	return "vd" + string(letters)
}

// validDeviceName accepts what deviceName makes.
func validDeviceName(name string) bool {
	letters, ok := strings.CutPrefix(name, "vd")
	return ok && letters != "" && len(letters) <= 3 && strings.Trim(letters, "abcdefghijklmnopqrstuvwxyz") == ""
}

func linkName(volumeID string) string { return "virtio-" + volumeID[:linkIDLength] }

func (s *Store) byID(server string) string {
	return filepath.Join(s.DeviceDir(server), "disk", "by-id")
}

// publish makes the attachment visible to its server: first the node, then the
// link, so that whoever waits for the link finds all of it.
func (s *Store) publish(a *attachment) error {
	name := filepath.Base(a.Device)
	if err := os.MkdirAll(s.byID(a.Server), dirMode); err != nil {
		return err
	}
	if err := placeNode(filepath.Join(s.DeviceDir(a.Server), name), a.loop.Rdev); err != nil {
		return err
	}
	return placeLink(filepath.Join(s.byID(a.Server), linkName(a.VolumeID)), filepath.Join("..", "..", name))
}

// retract takes the attachment out of its server's sight, in the reverse order.
// It comes before the loop device is unbound: afterwards the same loop device
// could belong to another volume at once.
func (s *Store) retract(a *attachment) error {
	name := filepath.Base(a.Device)
	link := filepath.Join(s.byID(a.Server), linkName(a.VolumeID))
	return errors.Join(removeIfThere(link), removeIfThere(filepath.Join(s.DeviceDir(a.Server), name)))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// placeNode makes path the block node of rdev, replacing another one in one step.
func placeNode(path string, rdev uint64) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == rdev {
		return nil
	}
	return replace(path, func(temp string) error {
		if err := unix.Mknod(temp, unix.S_IFBLK|fileMode, int(rdev)); err != nil {
			return fmt.Errorf("make device node %s: %w", path, err)
		}
		return nil
	})
}

// placeLink makes path a symbolic link to target, replacing another one in one step.
func placeLink(path, target string) error {
	if now, err := os.Readlink(path); err == nil && now == target {
		return nil
	}
	return replace(path, func(temp string) error { return os.Symlink(target, temp) })
}

// replace makes something under a temporary name beside path and renames it.
func replace(path string, write func(temp string) error) error {
	temp := filepath.Join(filepath.Dir(path), tempPrefix+filepath.Base(path))
	if err := removeIfThere(temp); err != nil {
		return err
	}
	if err := write(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// sweepDevices removes from a server's device directory every node and link that
// belongs to none of the attachments.
func (s *Store) sweepDevices(server string, keep []*attachment) error {
	wanted := map[string]bool{}
	for _, a := range keep {
		wanted[filepath.Base(a.Device)] = true
		wanted[linkName(a.VolumeID)] = true
	}
	for dir, prefix := range map[string]string{s.DeviceDir(server): "vd", s.byID(server): "virtio-"} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, entry := range entries {
			name := entry.Name()
			stale := strings.HasPrefix(name, prefix) && !wanted[name]
			if stale || strings.HasPrefix(name, tempPrefix) {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
