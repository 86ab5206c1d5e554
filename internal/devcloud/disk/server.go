package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/moby/sys/mountinfo"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/configdrive"
)

// validServer accepts what can be a directory and part of a loop device's label.
func validServer(name string) bool {
	ok, err := regexp.MatchString(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,49}$`, name)
	return err == nil && ok
}

func checkServer(name string) error {
	if !validServer(name) {
		return fmt.Errorf("server name %q is not 1 to 50 of letters, digits, '.', '_' and '-': %w", name, ErrInvalid)
	}
	return nil
}

// driveName is the server's config drive in its device directory, which holds all
// that the server sees: it may become the /dev of a mount namespace.
const driveName = "sr0"

// AddServer makes the server's device directory and writes its config drive.
// files maps a path in the drive ("openstack/latest/meta_data.json") to its
// content (see configdrive.Files); nil means no config drive. A server that is
// there keeps its attachments and gets the new drive. A name is 1 to 50 letters,
// digits, '.', '_' or '-', and does not begin with '.'.
func (s *Store) AddServer(name string, files map[string][]byte) error {
	if err := checkServer(name); err != nil {
		return fmt.Errorf("add server: %w", err)
	}
	s.mu.Lock() // not while the server is being removed
	defer s.mu.Unlock()
	if err := s.makeServer(name, files); err != nil {
		return fmt.Errorf("add server %s: %w", name, err)
	}
	s.servers[name] = true
	return nil
}

func (s *Store) makeServer(name string, files map[string][]byte) error {
	labels := filepath.Join(s.DeviceDir(name), "disk", "by-label")
	if err := errors.Join(os.MkdirAll(s.byID(name), dirMode), os.MkdirAll(labels, dirMode)); err != nil {
		return err
	}
	drive := filepath.Join(s.DeviceDir(name), driveName)
	link := filepath.Join(labels, configdrive.Label)
	if files == nil {
		return errors.Join(removeIfThere(link), removeIfThere(drive))
	}
	err := replace(drive, func(temp string) error { return configdrive.Write(temp, files) })
	if err != nil {
		return fmt.Errorf("write the config drive: %w", err)
	}
	return placeLink(link, filepath.Join("..", "..", driveName))
}

// RemoveServer detaches what is attached to the server and removes its
// directory. If something is in use there, that stays and ErrInUse is returned.
func (s *Store) RemoveServer(name string) error {
	if err := checkServer(name); err != nil {
		return fmt.Errorf("remove server: %w", err)
	}
	var errs []error
	for _, a := range s.attachedTo(name) {
		errs = append(errs, s.Detach(name, a.VolumeID))
	}
	err := errors.Join(errs...)
	if err == nil {
		err = s.dropServer(name)
	}
	if err != nil {
		return fmt.Errorf("remove server %s: %w", name, err)
	}
	return nil
}

// dropServer removes the directory of a server without attachments. It is renamed
// first, so that a part of it is never taken for a server.
func (s *Store) dropServer(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.attachedToLocked(name)); n > 0 {
		return fmt.Errorf("%d volumes were attached to it meanwhile: %w", n, ErrInUse)
	}
	dir := s.serverDir(name)
	if err := s.noMountsBelow(dir); err != nil {
		return err
	}
	trash := filepath.Join(s.dir, "servers", tempPrefix+name)
	if err := os.RemoveAll(trash); err != nil {
		return err
	}
	if err := os.Rename(dir, trash); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	delete(s.servers, name)
	return os.RemoveAll(trash)
}

// noMountsBelow returns ErrInUse when something is mounted at or below dir:
// removing the directory would remove what is mounted there. The store itself
// may be a mount.
func (s *Store) noMountsBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("look for mounts below %s: %w", dir, err)
	}
	for _, m := range mounts {
		if m.Mountpoint != s.dir {
			return fmt.Errorf("%s is mounted on %s: %w", m.Source, m.Mountpoint, ErrInUse)
		}
	}
	return nil
}

// Servers returns the names of all servers, sorted.
func (s *Store) Servers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.servers))
	for name := range s.servers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
