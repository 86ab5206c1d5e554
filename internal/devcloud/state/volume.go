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

// newVolume checks a specification and completes it.
func (c *Cloud) newVolume(call Call, spec VolumeSpec) (Volume, error) {
	v := Volume{
		ID: newID(), ProjectID: call.ProjectID, UserID: call.UserID, Name: spec.Name, Description: spec.Description,
		Size: spec.Size, Status: "creating", Zone: spec.Zone, SnapshotID: spec.SnapshotID, SourceID: spec.SourceID,
		BackupID: spec.BackupID, Metadata: spec.Metadata, CreatedAt: now(),
	}
	kind, err := c.findType(spec.Type)
	if err != nil {
		return v, err
	}
	if err := c.fitSource(call, &v, &kind, spec.Type != ""); err != nil {
		return v, err
	}
	if v.Zone == "" {
		v.Zone = DefaultZone
	}
	if !c.zoneExists(v.Zone) && c.Behaviour().ZoneFallback {
		v.Zone = DefaultZone
	}
	if !c.zoneExists(v.Zone) {
		return v, rest.BadRequest("Availability zone '%s' is invalid.", v.Zone)
	}
	v.TypeID, v.Multiattach = kind.ID, kind.Multiattach()
	if spec.Multiattach {
		// Since Cinder's microversion 3.50 only the type decides; before it a
		// member was allowed to ask for a single volume.
		v.Multiattach = true
	}
	v.Seq = c.nextSeq()
	return v, nil
}

// fitSource makes a volume fit what it is made from.
func (c *Cloud) fitSource(call Call, v *Volume, kind *VolumeType, typed bool) error {
	switch {
	case v.SnapshotID != "":
		s, ok := c.snapshots.Get(v.SnapshotID)
		if !ok || !call.sees(s.ProjectID) {
			return rest.NotFound("Snapshot %s could not be found.", v.SnapshotID)
		}
		if s.Status != "available" {
			return rest.BadRequest("Invalid snapshot: Originating snapshot status must be one of 'available' values")
		}
		if v.Size == 0 {
			v.Size = s.Size
		}
		if v.Size < s.Size {
			return rest.BadRequest("Invalid input received: Volume size '%d'GB cannot be smaller than the snapshot size %dGB. They must be >= original snapshot size.", v.Size, s.Size)
		}
		source, _ := c.volumes.Get(s.VolumeID)
		return c.fitBackend(v, kind, typed, s.TypeID, source.Zone, "snapshot")
	case v.SourceID != "":
		source, ok := c.volumes.Get(v.SourceID)
		if !ok || !call.sees(source.ProjectID) {
			return rest.NotFound("Volume %s could not be found.", v.SourceID)
		}
		if !oneOf(source.Status, "available", "in-use") {
			return rest.BadRequest("Invalid volume: Originating source volume status must be one of 'available, in-use' values")
		}
		if v.Size == 0 {
			v.Size = source.Size
		}
		if v.Size < source.Size {
			return rest.BadRequest("Invalid input received: Volume size '%d'GB cannot be smaller than original volume size  %dGB. They must be >= original volume size.", v.Size, source.Size)
		}
		return c.fitBackend(v, kind, typed, source.TypeID, source.Zone, "source volume")
	case v.BackupID != "":
		b, ok := c.backups.Get(v.BackupID)
		if !ok || !call.sees(b.ProjectID) {
			return rest.NotFound("Backup %s could not be found.", v.BackupID)
		}
		if b.Status != "available" {
			return rest.BadRequest("Invalid backup: Originating backup status must be one of 'available' values")
		}
		if v.Size == 0 {
			v.Size = b.Size
		}
		if v.Size < b.Size {
			return rest.BadRequest("Invalid input received: Volume size %dGB cannot be smaller than the backup size %dGB. It must be >= backup size.", v.Size, b.Size)
		}
	}
	return nil
}

func (c *Cloud) fitBackend(v *Volume, kind *VolumeType, typed bool, sourceType, sourceZone, what string) error {
	if original, ok := c.types.Get(sourceType); ok {
		if !typed {
			*kind = original
		} else if kind.Backend != original.Backend {
			advice := "either match source volume, or omit type argument"
			if v.SnapshotID != "" {
				advice = "recommend omitting the type argument"
			}
			return rest.BadRequest("Invalid input received: Invalid volume_type provided: %s (requested type is not compatible; %s).", kind.ID, advice)
		}
	}
	if v.Zone == "" {
		v.Zone = sourceZone
	}
	if sourceZone != "" && v.Zone != sourceZone {
		return rest.BadRequest("Invalid input received: Volume must be in the same availability zone as the %s", what)
	}
	return nil
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
		host := poolOf(v.Zone, kind.Backend)
		if kind.Backend == "" || len(kind.Zones) > 0 && !oneOf(v.Zone, kind.Zones...) || !c.hinted(t, host) {
			c.note(t.Call, v.ProjectID, "VOLUME_VOLUME_001_003", "schedule allocate volume:Could not find any available weighted backend.", "VOLUME", v.ID)
			v.Status, v.UpdatedAt = "error", now()
			c.volumes.Put(v.ID, v)
			c.finish(t)
			return nil
		}
		v.Host = host
		c.volumes.Put(v.ID, v)
		scheduled = true
		return nil
	})
	if err == nil && orphan.ID != "" {
		err = c.plane.CreateVolume(orphan.ID, orphan.Size*GiB)
	}
	return scheduled, err
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
