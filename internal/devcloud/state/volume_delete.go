package state

import (
	"context"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

const undeletable = "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer."

// DeleteVolume accepts the deletion of a volume; cascade takes its snapshots along.
func (c *Cloud) DeleteVolume(call Call, id string, cascade bool) error {
	return c.update(func() error {
		v, err := c.visibleVolume(call, id)
		if err != nil {
			return err
		}
		if v.Host == "" && (v.Status != "creating" || !c.Behaviour().RefuseDeleteWhileCreating) {
			return c.deleteUnscheduled(v)
		}
		snapshots := c.snapshotsOf(id)
		if !oneOf(v.Status, "available", "error", "error_restoring", "error_extending", "error_managing") ||
			len(v.Attached()) > 0 || len(snapshots) > 0 && !cascade {
			return rest.BadRequest("%s", undeletable)
		}
		t := Task{Kind: taskDeleteVolume, Call: call, VolumeID: id}
		for _, s := range snapshots {
			s.Status, s.UpdatedAt = "deleting", now()
			c.snapshots.Put(s.ID, s)
			t.Snapshots = append(t.Snapshots, s.ID)
		}
		v.Status, v.UpdatedAt = "deleting", now()
		c.volumes.Put(id, v)
		c.start(t)
		return nil
	})
}

// deleteUnscheduled forgets a volume that has no host, at once and whatever its
// status is. Its creation may still be on its way to one.
func (c *Cloud) deleteUnscheduled(v Volume) error {
	c.tasks.Each(func(t *Task) bool {
		if t.Kind == taskCreateVolume && t.VolumeID == v.ID {
			changed := *t
			changed.Orphan = &v
			c.tasks.Put(t.ID, changed)
			return false
		}
		return true
	})
	c.volumes.Delete(v.ID)
	return nil
}

// deleteVolume is the task that removes a volume.
func (c *Cloud) deleteVolume(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "volume.deleting"); err != nil {
		return err
	}
	if end := t.endIn(); end != "" {
		return c.settle(t, func() { c.setStatus(t.VolumeID, end) })
	}
	var failure error
	for _, s := range t.Snapshots {
		if err := c.plane.DeleteSnapshot(s); err != nil {
			failure = err
		}
	}
	if failure == nil {
		failure = c.plane.DeleteVolume(t.VolumeID)
	}
	return c.settle(t, func() {
		if failure != nil {
			c.logFailure(t, failure)
			c.setStatus(t.VolumeID, "error_deleting")
			return
		}
		for _, s := range t.Snapshots {
			c.snapshots.Delete(s)
		}
		c.volumes.Delete(t.VolumeID)
	})
}
