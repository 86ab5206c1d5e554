package state

import (
	"context"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// SnapshotSpec is what a new snapshot shall be.
type SnapshotSpec struct {
	VolumeID          string
	Name, Description *string
	Metadata          map[string]string
	// Attached allows a volume that is in use.
	Attached bool
}

// CreateSnapshot accepts a new snapshot.
func (c *Cloud) CreateSnapshot(call Call, spec SnapshotSpec) (Snapshot, error) {
	var s Snapshot
	err := c.update(func() error {
		v, err := c.visibleVolume(call, spec.VolumeID)
		if err != nil {
			return err
		}
		if v.Status == "error" {
			return rest.BadRequest("Invalid volume: The snapshot cannot be created when the volume is in error status.")
		}
		if v.Status == "maintenance" {
			return rest.BadRequest("Invalid volume: The snapshot cannot be created when the volume is in maintenance mode.")
		}
		allowed := []string{"available"}
		if spec.Attached {
			allowed = append(allowed, "in-use")
		}
		if !oneOf(v.Status, allowed...) {
			return rest.BadRequest("Invalid volume: Volume %s status must be %s, but current status is: %s.", v.ID, strings.Join(allowed, ", "), v.Status)
		}
		if err := c.checkSnapshotQuota(v); err != nil {
			return err
		}
		s = Snapshot{
			ID: newID(), ProjectID: v.ProjectID, UserID: call.UserID, Seq: c.nextSeq(), VolumeID: v.ID, Name: spec.Name,
			Description: spec.Description, Size: v.Size, TypeID: v.TypeID, Status: "creating", Metadata: spec.Metadata, CreatedAt: now(),
		}
		c.snapshots.Put(s.ID, s)
		c.start(Task{Kind: taskCreateSnapshot, Call: call, VolumeID: v.ID, SnapshotID: s.ID})
		return nil
	})
	return s, err
}

// createSnapshot is the task that makes a snapshot.
func (c *Cloud) createSnapshot(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "snapshot.creating"); err != nil {
		return err
	}
	end := t.endIn()
	if end == "" {
		if err := c.plane.CreateSnapshot(t.SnapshotID, t.VolumeID); err != nil {
			c.logFailure(t, err)
			end = "error"
		}
	}
	return c.settle(t, func() {
		s, ok := c.snapshots.Get(t.SnapshotID)
		if !ok {
			return
		}
		s.Status, s.Made, s.UpdatedAt = "available", true, now()
		if end != "" {
			s.Status = end
			c.note(t.Call, s.ProjectID, "VOLUME_VOLUME_SNAPSHOT_009_002", "create snapshot:Driver failed to create the snapshot.", "VOLUME_SNAPSHOT", s.ID)
		}
		c.snapshots.Put(s.ID, s)
	})
}

// DeleteSnapshot accepts the deletion of a snapshot.
func (c *Cloud) DeleteSnapshot(call Call, id string) error {
	return c.update(func() error {
		s, err := c.visibleSnapshot(call, id)
		if err != nil {
			return err
		}
		if !oneOf(s.Status, "available", "error", "error_deleting") {
			return rest.BadRequest("Invalid snapshot: Snapshot status must be available or error and must not be part of a group.")
		}
		s.Status, s.UpdatedAt = "deleting", now()
		c.snapshots.Put(id, s)
		c.start(Task{Kind: taskDeleteSnapshot, Call: call, VolumeID: s.VolumeID, SnapshotID: id})
		return nil
	})
}

// deleteSnapshot is the task that removes a snapshot, or finds that it can't.
func (c *Cloud) deleteSnapshot(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "snapshot.deleting"); err != nil {
		return err
	}
	end := t.endIn()
	busy := c.Behaviour().ClonesHoldSnapshots && c.hasClone(t.SnapshotID)
	if end == "" && !busy {
		if err := c.plane.DeleteSnapshot(t.SnapshotID); err != nil {
			c.logFailure(t, err)
			end = "error_deleting"
		}
	}
	return c.settle(t, func() {
		s, ok := c.snapshots.Get(t.SnapshotID)
		if !ok {
			return
		}
		s.UpdatedAt = now()
		switch {
		case end != "":
			s.Status = end
		case busy:
			s.Status = "available"
			c.note(t.Call, s.ProjectID, "VOLUME_VOLUME_SNAPSHOT_010_015", "delete snapshot:Snapshot is busy.", "VOLUME_SNAPSHOT", s.ID)
		default:
			c.snapshots.Delete(s.ID)
			return
		}
		c.snapshots.Put(s.ID, s)
	})
}

func (c *Cloud) hasClone(snapshotID string) (found bool) {
	c.view(func() {
		c.volumes.Each(func(v *Volume) bool {
			found = v.SnapshotID == snapshotID
			return !found
		})
	})
	return found
}

// snapshotsOf returns the snapshots of a volume. Only under the lock.
func (c *Cloud) snapshotsOf(volumeID string) []Snapshot {
	var list []Snapshot
	c.snapshots.Each(func(s *Snapshot) bool {
		if s.VolumeID == volumeID {
			list = append(list, *s)
		}
		return true
	})
	return list
}

// Snapshot returns one snapshot that the caller may see.
func (c *Cloud) Snapshot(call Call, id string) (s Snapshot, err error) {
	c.view(func() { s, err = c.visibleSnapshot(call, id) })
	return s, err
}

// Snapshots returns the snapshots that the caller may see and the filter
// selects, newest first.
func (c *Cloud) Snapshots(call Call, all bool, filter func(*Snapshot) bool) []Snapshot {
	var list []Snapshot
	c.view(func() {
		c.snapshots.Each(func(s *Snapshot) bool {
			if (s.ProjectID == call.ProjectID || all && call.Admin) && (filter == nil || filter(s)) {
				list = append(list, *s)
			}
			return true
		})
	})
	newestFirst(list, func(s *Snapshot) uint64 { return s.Seq })
	return list
}

// ChangeSnapshot changes name, description, metadata or status through fn.
func (c *Cloud) ChangeSnapshot(call Call, id string, fn func(s *Snapshot)) (Snapshot, error) {
	var s Snapshot
	err := c.update(func() error {
		var err error
		if s, err = c.visibleSnapshot(call, id); err != nil {
			return err
		}
		fn(&s)
		s.UpdatedAt = now()
		c.snapshots.Put(id, s)
		return nil
	})
	return s, err
}

func (c *Cloud) visibleSnapshot(call Call, id string) (Snapshot, error) {
	s, ok := c.snapshots.Get(id)
	if !ok || !call.sees(s.ProjectID) {
		return Snapshot{}, rest.NotFound("Snapshot %s could not be found.", id)
	}
	return s, nil
}
