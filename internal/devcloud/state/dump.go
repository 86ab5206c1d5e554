package state

import "slices"

// NamesOf returns the names of the volumes, snapshots, backups and servers
// that have these ids.
func (c *Cloud) NamesOf(ids []string) []string {
	var names []string
	c.view(func() {
		for _, id := range ids {
			if v, ok := c.volumes.Get(id); ok && v.Name != nil {
				names = append(names, *v.Name)
			}
			if s, ok := c.snapshots.Get(id); ok && s.Name != nil {
				names = append(names, *s.Name)
			}
			if b, ok := c.backups.Get(id); ok && b.Name != nil {
				names = append(names, *b.Name)
			}
			if s, ok := c.servers.Get(id); ok {
				names = append(names, s.Name)
			}
		}
	})
	return names
}

// Dump is everything that the cloud knows, and the files of its backend.
type Dump struct {
	Volumes   []Volume
	Snapshots []Snapshot
	Backups   []Backup
	Servers   []Server
	Messages  []Message
	Tasks     []Task
	Files     []string
}

// Dump returns everything, oldest first.
func (c *Cloud) Dump() (Dump, error) {
	everybody := Call{Admin: true}
	d := Dump{
		Volumes: c.Volumes(everybody, true, nil), Snapshots: c.Snapshots(everybody, true, nil),
		Backups: c.Backups(everybody, true, nil), Servers: c.Servers(everybody, true, nil), Messages: c.Messages(everybody, nil),
	}
	slices.Reverse(d.Volumes)
	slices.Reverse(d.Snapshots)
	slices.Reverse(d.Backups)
	slices.Reverse(d.Servers)
	slices.Reverse(d.Messages)
	c.view(func() {
		c.tasks.Each(func(t *Task) bool {
			d.Tasks = append(d.Tasks, *t)
			return true
		})
	})
	var err error
	d.Files, err = c.plane.Files()
	return d, err
}
