package state

import (
	"context"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// VolumeSpec is what a new volume shall be.
type VolumeSpec struct {
	Name, Description *string
	Size              int64 // GiB; 0 takes the source's
	Type              string
	Zone              string
	SnapshotID        string
	SourceID          string
	BackupID          string
	Metadata          map[string]string
	Multiattach       bool
	// SameHost and DifferentHost are volumes whose host is wanted, or not.
	SameHost, DifferentHost []string
}

// CreateVolume accepts a new volume.
func (c *Cloud) CreateVolume(call Call, spec VolumeSpec) (Volume, error) {
	var v Volume
	err := c.update(func() error {
		var err error
		if v, err = c.newVolume(call, spec); err != nil {
			return err
		}
		if err := c.checkVolumeQuota(v); err != nil {
			return err
		}
		c.volumes.Put(v.ID, v)
		c.start(Task{Kind: taskCreateVolume, Call: call, VolumeID: v.ID, SameHost: spec.SameHost, DifferentHost: spec.DifferentHost})
		return nil
	})
	return v, err
}

// createVolume is the task that makes a volume.
func (c *Cloud) createVolume(ctx context.Context, t Task) error {
	if err := c.pause(ctx, "volume.scheduling"); err != nil {
		return err
	}
	scheduled, err := c.schedule(t)
	if err != nil || !scheduled {
		return err
	}
	v, ok := c.rawVolume(t.VolumeID)
	if !ok {
		return c.settle(t, nil)
	}
	if err := c.wait(ctx, t, creationStep(v)); err != nil {
		return err
	}
	failure := c.fill(v)
	return c.settle(t, func() {
		v, ok := c.volumes.Get(t.VolumeID)
		if !ok {
			return
		}
		v.Status = "available"
		switch {
		case failure != nil:
			c.note(t.Call, v.ProjectID, "VOLUME_VOLUME_001_002", "create volume:Driver failed to create the volume.", "VOLUME", v.ID)
			c.logFailure(t, failure)
			v.Status = "error"
		case t.endIn() != "":
			c.note(t.Call, v.ProjectID, "VOLUME_VOLUME_001_002", "create volume:Driver failed to create the volume.", "VOLUME", v.ID)
			v.Status = t.endIn()
		case v.BackupID != "":
			v.Metadata = with(v.Metadata, "src_backup_id", v.BackupID)
		}
		v.UpdatedAt = now()
		c.volumes.Put(v.ID, v)
	})
}

// schedule gives a new volume its backend. It reports false where the task
// has come to its end: there is none, or the volume was deleted meanwhile and
// its file is made all the same.
func (c *Cloud) schedule(t Task) (bool, error) {
	scheduled := false
	var orphan Volume
	err := c.update(func() error {
		v, ok := c.volumes.Get(t.VolumeID)
		if !ok {
			current, _ := c.tasks.Get(t.ID)
			if current.Orphan != nil {
				orphan = *current.Orphan
			}
			c.finish(t)
			return nil
		}
		kind, _ := c.types.Get(v.TypeID)
		zone, found := c.placed(t, v, kind)
		if !found {
			c.note(t.Call, v.ProjectID, "VOLUME_VOLUME_001_003", "schedule allocate volume:Could not find any available weighted backend.", "VOLUME", v.ID)
			v.Status, v.UpdatedAt = "error", now()
			c.volumes.Put(v.ID, v)
			c.finish(t)
			return nil
		}
		v.Zone, v.Host, v.UpdatedAt = zone, poolOf(zone, kind.Backend), now()
		c.volumes.Put(v.ID, v)
		scheduled = true
		return nil
	})
	if err == nil && orphan.ID != "" {
		err = c.plane.CreateVolume(orphan.ID, orphan.Size*GiB)
	}
	return scheduled, err
}

// placed is the zone that a new volume is made in: its own, or where it has none
// the first of its type's. It reports false where no such zone has the back end.
// Only under the lock.
func (c *Cloud) placed(t Task, v Volume, kind VolumeType) (string, bool) {
	zones := []string{v.Zone}
	if v.Zone == "" {
		zones, _ = kind.Zones()
	}
	at := slices.IndexFunc(zones, func(zone string) bool {
		return c.zoneExists(zone) && c.Behaviour().serves(kind.Backend, zone) && c.hinted(t, poolOf(zone, kind.Backend))
	})
	if at < 0 {
		return "", false
	}
	return zones[at], true
}

// hinted reports whether a host is where the hints of a request want the volume:
// with any of some volumes, and with none of others. Only under the lock.
func (c *Cloud) hinted(t Task, host string) bool {
	holds := func(id string) bool {
		v, ok := c.volumes.Get(id)
		return ok && v.Host == host
	}
	return (len(t.SameHost) == 0 || slices.ContainsFunc(t.SameHost, holds)) && !slices.ContainsFunc(t.DifferentHost, holds)
}

func creationStep(v Volume) string {
	switch {
	case v.SourceID != "" || v.SnapshotID != "":
		return "volume.cloning"
	case v.BackupID != "":
		return "volume.restoring"
	}
	return "volume.creating"
}

// fill makes the file of a new volume.
func (c *Cloud) fill(v Volume) error {
	size := v.Size * GiB
	switch {
	case v.SnapshotID != "":
		return c.plane.VolumeFromSnapshot(v.ID, v.SnapshotID, size)
	case v.SourceID != "":
		return c.plane.CloneVolume(v.ID, v.SourceID, size)
	case v.BackupID != "":
		b, ok := c.backup(v.BackupID)
		if ok && b.Size > v.Size {
			return rest.BadRequest("volume %s is smaller than backup %s", v.ID, b.ID)
		}
		return c.plane.VolumeFromBackup(v.ID, v.BackupID, size)
	}
	return c.plane.CreateVolume(v.ID, size)
}

// with returns a copy of m that has one more entry.
func with(m map[string]string, key, value string) map[string]string {
	out := make(map[string]string, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	out[key] = value
	return out
}

// Filter selects volumes.
type Filter func(v *Volume) bool

// Volume returns one volume that the caller may see.
func (c *Cloud) Volume(call Call, id string) (v Volume, err error) {
	c.view(func() { v, err = c.visibleVolume(call, id) })
	return v, err
}

// Volumes returns the volumes that the caller may see and the filter selects,
// newest first.
func (c *Cloud) Volumes(call Call, all bool, filter Filter) []Volume {
	var list []Volume
	c.view(func() {
		c.volumes.Each(func(v *Volume) bool {
			if (v.ProjectID == call.ProjectID || all && call.Admin) && (filter == nil || filter(v)) {
				list = append(list, *v)
			}
			return true
		})
	})
	newestFirst(list, func(v *Volume) uint64 { return v.Seq })
	return list
}

func (c *Cloud) visibleVolume(call Call, id string) (Volume, error) {
	v, ok := c.volumes.Get(id)
	if !ok || !call.sees(v.ProjectID) {
		return Volume{}, rest.NotFound("Volume %s could not be found.", strings.TrimSpace(id))
	}
	return v, nil
}

func (c *Cloud) rawVolume(id string) (v Volume, ok bool) {
	c.view(func() { v, ok = c.volumes.Get(id) })
	return v, ok
}
