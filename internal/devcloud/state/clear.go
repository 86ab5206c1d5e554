package state

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Clear removes every volume, snapshot and backup with its data, its messages
// and its history; servers stay. What is under way is broken off. A device
// that something holds open keeps its volume, and is told in the error.
func (c *Cloud) Clear() error {
	c.clearing.Lock()
	defer c.clearing.Unlock()
	c.faults.Set(nil)
	c.freeze()
	defer c.thaw()
	d, err := c.Dump()
	if err != nil {
		return err
	}
	failures := []error{c.clearTasks()}
	keys := map[string]string{}
	for _, s := range d.Servers {
		keys[s.ID] = s.Key
	}
	for _, v := range d.Volumes {
		if err := c.clearVolume(v, d.Servers, keys); err != nil {
			failures = append(failures, fmt.Errorf("volume %s: %w", v.ID, err))
		}
	}
	failures = append(failures, c.clearCopies(d), c.clearOrphans())
	return errors.Join(failures...)
}

// clearTasks forgets all tasks but those about servers as such.
func (c *Cloud) clearTasks() error {
	return c.update(func() error {
		c.tasks.Each(func(t *Task) bool {
			if t.Kind != taskCreateServer && t.Kind != taskDeleteServer {
				c.tasks.Delete(t.ID)
			}
			return true
		})
		return nil
	})
}

func (c *Cloud) clearVolume(v Volume, servers []Server, keys map[string]string) error {
	for _, a := range v.Attachments {
		if key := keys[a.ServerID]; key != "" {
			if err := c.plane.Detach(key, v.ID); err != nil {
				return err
			}
		}
	}
	for _, s := range servers {
		if _, ok := s.Disk(v.ID); ok {
			if err := c.plane.Detach(s.Key, v.ID); err != nil {
				return err
			}
		}
	}
	if err := c.plane.DeleteVolume(v.ID); err != nil {
		return err
	}
	return c.update(func() error {
		c.volumes.Delete(v.ID)
		for _, s := range servers {
			s, ok := c.servers.Get(s.ID)
			if !ok {
				continue
			}
			if d, listed := s.Disk(v.ID); listed {
				s.dropDisk(d.AttachmentID)
				c.servers.Put(s.ID, s)
			}
		}
		return nil
	})
}

// clearCopies removes snapshots and backups, messages and actions.
func (c *Cloud) clearCopies(d Dump) error {
	var failures []error
	for _, s := range d.Snapshots {
		failures = append(failures, c.plane.DeleteSnapshot(s.ID))
	}
	for _, b := range d.Backups {
		failures = append(failures, c.plane.DeleteBackup(b.ID))
	}
	failures = append(failures, c.update(func() error {
		for _, s := range d.Snapshots {
			c.snapshots.Delete(s.ID)
		}
		for _, b := range d.Backups {
			c.backups.Delete(b.ID)
		}
		for _, m := range d.Messages {
			c.messages.Delete(m.ID)
		}
		var actions []string
		c.actions.Each(func(a *Action) bool { actions = append(actions, a.Key); return true })
		for _, key := range actions {
			c.actions.Delete(key)
		}
		return nil
	}))
	return errors.Join(failures...)
}

// clearOrphans removes the files of volumes that Cinder has forgotten.
func (c *Cloud) clearOrphans() error {
	files, err := c.plane.Files()
	if err != nil {
		return err
	}
	var failures []error
	for _, file := range files {
		id, isVolume := strings.CutPrefix(filepath.Base(file), "volume-")
		if _, known := c.rawVolume(id); isVolume && !known {
			failures = append(failures, c.plane.DeleteVolume(id))
		}
	}
	return errors.Join(failures...)
}
