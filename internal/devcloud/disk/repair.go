package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// repair brings the store to a state in which every call is either done or not
// begun, whatever the last process was doing when it ended.
func (s *Store) repair() error {
	if err := s.sweepTemps(); err != nil {
		return err
	}
	if err := s.findServers(); err != nil {
		return err
	}
	if !s.root {
		return nil
	}
	if err := s.loops.Check(); err != nil {
		return err
	}
	if err := s.adoptAll(); err != nil {
		return err
	}
	for server := range s.servers {
		attached := s.attachedTo(server)
		if err := s.sweepDevices(server, attached); err != nil {
			return fmt.Errorf("repair the devices of server %s: %w", server, err)
		}
		for _, a := range attached {
			if err := s.publish(a); err != nil {
				return fmt.Errorf("repair the devices of server %s: %w", server, err)
			}
		}
	}
	return nil
}

// sweepTemps removes everything unfinished.
func (s *Store) sweepTemps() error {
	for _, pattern := range []string{"", "volumes", "snapshots", "backups", "servers", "servers/*", "servers/*/dev"} {
		temps, err := filepath.Glob(filepath.Join(globEscape(s.dir), pattern, tempPrefix+"*"))
		if err != nil {
			return err
		}
		for _, temp := range temps {
			if err := os.RemoveAll(temp); err != nil {
				return err
			}
		}
	}
	return nil
}

// globEscape keeps what a directory is called from being taken for a pattern.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func (s *Store) findServers() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "servers"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() && validServer(entry.Name()) {
			s.servers[entry.Name()] = true
		}
	}
	return nil
}

// adoptAll takes over the loop devices that an earlier process attached.
func (s *Store) adoptAll() error {
	devices, err := loop.List()
	if err != nil {
		return err
	}
	for _, d := range devices {
		id, ok := s.volumeOf(d)
		if !ok {
			continue
		}
		if err := s.adopt(id, d); err != nil && !errors.Is(err, loop.ErrGone) {
			return fmt.Errorf("adopt %s, bound to volume %s: %w", d.Name(), id, err)
		}
	}
	return nil
}

// volumeOf returns the volume whose file the device is bound to.
func (s *Store) volumeOf(d loop.Device) (id string, ok bool) {
	name, ok := strings.CutPrefix(d.File, s.kindDir(KindVolume)+"/")
	if !ok {
		return "", false
	}
	id, ok = strings.CutPrefix(name, string(KindVolume)+"-")
	return id, ok && validID(id)
}

// adopt enters the device as the attachment that its label tells. One without a
// label, or with that of another device, was put there by somebody else: it is
// left alone, and keeps the volume from being deleted.
func (s *Store) adopt(volumeID string, d loop.Device) error {
	status, err := s.loops.Status(d)
	if err != nil {
		return err
	}
	name, server, ok := parseLabel(status.Label, volumeID)
	if !ok || s.taken(server, volumeID, "/dev/"+name) {
		return nil
	}
	if d.Deleted { // the volume was deleted by force: nothing is left to be kept
		err := s.loops.Unbind(d, func() error { return nil })
		if !errors.Is(err, loop.ErrBusy) {
			return err
		}
	}
	if status.AutoClear { // the last process ended while it took a lazy detach back
		if err := s.loops.Keep(d); err != nil {
			return err
		}
	}
	s.servers[server] = true
	s.settle(&attachment{Attachment: Attachment{
		Server: server, VolumeID: volumeID, Device: "/dev/" + name, ReadOnly: status.ReadOnly,
	}}, d)
	return nil
}

// taken reports whether the server has this volume, device or link already.
func (s *Store) taken(server, volumeID, device string) bool {
	for _, a := range s.attachedTo(server) {
		if a.Device == device || linkName(a.VolumeID) == linkName(volumeID) {
			return true
		}
	}
	return false
}
