package state

import (
	"context"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// BackupSpec is what a new backup shall be.
type BackupSpec struct {
	VolumeID          string
	SnapshotID        string
	Name, Description *string
	Container         string
	Zone              string
	Metadata          map[string]string
	Force             bool
	Incremental       bool
}

// CreateBackup accepts a new backup.
func (c *Cloud) CreateBackup(call Call, spec BackupSpec) (Backup, error) {
	var b Backup
	err := c.update(func() error {
		v, err := c.visibleVolume(call, spec.VolumeID)
		if err != nil {
			return err
		}
		b = Backup{
			ID: newID(), ProjectID: v.ProjectID, UserID: call.UserID, VolumeID: v.ID, SnapshotID: spec.SnapshotID, Name: spec.Name,
			Description: spec.Description, Size: v.Size, Status: "creating", Zone: spec.Zone, Metadata: spec.Metadata,
			Container: spec.Container, CreatedAt: now(),
		}
		if err := c.backupSource(call, &b, &v, spec); err != nil {
			return err
		}
		if err := c.checkBackupQuota(b); err != nil {
			return err
		}
		b.Seq = c.nextSeq()
		c.backups.Put(b.ID, b)
		c.start(Task{Kind: taskCreateBackup, Call: call, VolumeID: v.ID, SnapshotID: b.SnapshotID, BackupID: b.ID})
		return nil
	})
	return b, err
}

// backupSource checks what is backed up and marks it. Only in an update.
func (c *Cloud) backupSource(call Call, b *Backup, v *Volume, spec BackupSpec) error {
	if spec.Incremental {
		parent := c.latestBackup(v.ID)
		if parent.ID == "" {
			return rest.BadRequest("Invalid backup: No backups available to do an incremental backup.")
		}
		if parent.Status != "available" {
			return rest.BadRequest("Invalid backup: The parent backup must be available for incremental backup.")
		}
		b.ParentID = parent.ID
	}
	if spec.SnapshotID != "" {
		s, err := c.visibleSnapshot(call, spec.SnapshotID)
		if err != nil {
			return err
		}
		if s.Status != "available" {
			return rest.BadRequest("Invalid snapshot: Snapshot to be backed up must be available, but the current status is \"%s\".", s.Status)
		}
		b.Size = s.Size
		s.Status, s.UpdatedAt = "backing-up", now()
		c.snapshots.Put(s.ID, s)
		return nil
	}
	if v.Status == "in-use" && !spec.Force {
		return rest.BadRequest("Invalid volume: Backing up an in-use volume must use the force flag.")
	}
	if !oneOf(v.Status, "available", "in-use") {
		return rest.BadRequest("Invalid volume: Volume to be backed up must be available or in-use, but the current status is \"%s\".", v.Status)
	}
	v.Previous, v.Status, v.UpdatedAt = v.Status, "backing-up", now()
	c.volumes.Put(v.ID, *v)
	return nil
}

// latestBackup returns the newest backup of a volume, whatever its status.
func (c *Cloud) latestBackup(volumeID string) (latest Backup) {
	c.backups.Each(func(b *Backup) bool {
		if b.VolumeID == volumeID && b.Seq > latest.Seq {
			latest = *b
		}
		return true
	})
	return latest
}

// createBackup is the task that makes a backup.
func (c *Cloud) createBackup(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "backup.creating"); err != nil {
		return err
	}
	end, reason := t.endIn(), "the backup was made to fail"
	if end == "" {
		var err error
		if t.SnapshotID != "" {
			err = c.plane.BackupSnapshot(t.BackupID, t.SnapshotID)
		} else {
			err = c.plane.BackupVolume(t.BackupID, t.VolumeID)
		}
		if err != nil {
			c.logFailure(t, err)
			end, reason = "error", err.Error()
		}
	}
	return c.settle(t, func() {
		c.backedUp(t)
		b, ok := c.backups.Get(t.BackupID)
		if !ok {
			return
		}
		b.Status, b.UpdatedAt = "available", now()
		if b.Container == "" {
			b.Container = b.ID[:2] + "/" + b.ID[2:4] + "/" + b.ID
		}
		if end != "" {
			b.Status, b.FailReason = end, reason
		}
		c.backups.Put(b.ID, b)
	})
}

// backedUp gives the source of a backup its status back. Only in an update.
func (c *Cloud) backedUp(t Task) {
	if t.SnapshotID != "" {
		if s, ok := c.snapshots.Get(t.SnapshotID); ok && s.Status == "backing-up" {
			s.Status, s.UpdatedAt = "available", now()
			c.snapshots.Put(s.ID, s)
		}
		return
	}
	if v, ok := c.volumes.Get(t.VolumeID); ok && v.Status == "backing-up" {
		v.Status, v.UpdatedAt = v.Previous, now()
		c.volumes.Put(v.ID, v)
	}
}

// DeleteBackup accepts the deletion of a backup.
func (c *Cloud) DeleteBackup(call Call, id string) error {
	return c.update(func() error {
		b, err := c.visibleBackup(call, id)
		if err != nil {
			return err
		}
		if !oneOf(b.Status, "available", "error", "error_deleting") {
			return rest.BadRequest("Invalid backup: Backup status must be available or error")
		}
		if c.hasIncrement(id) {
			return rest.BadRequest("Invalid backup: Incremental backups exist for this backup.")
		}
		b.Status, b.UpdatedAt = "deleting", now()
		c.backups.Put(id, b)
		c.start(Task{Kind: taskDeleteBackup, Call: call, BackupID: id})
		return nil
	})
}

func (c *Cloud) hasIncrement(id string) (found bool) {
	c.backups.Each(func(b *Backup) bool {
		found = b.ParentID == id
		return !found
	})
	return found
}

// deleteBackup is the task that removes a backup.
func (c *Cloud) deleteBackup(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "backup.deleting"); err != nil {
		return err
	}
	end := t.endIn()
	if end == "" {
		if err := c.plane.DeleteBackup(t.BackupID); err != nil {
			c.logFailure(t, err)
			end = "error_deleting"
		}
	}
	return c.settle(t, func() {
		if end == "" {
			c.backups.Delete(t.BackupID)
			return
		}
		if b, ok := c.backups.Get(t.BackupID); ok {
			b.Status, b.UpdatedAt = end, now()
			c.backups.Put(b.ID, b)
		}
	})
}

// Backup returns one backup that the caller may see, and whether others build upon it.
func (c *Cloud) Backup(call Call, id string) (b Backup, dependents bool, err error) {
	c.view(func() {
		b, err = c.visibleBackup(call, id)
		dependents = err == nil && c.hasIncrement(id)
	})
	return b, dependents, err
}

// Backups returns the backups that the caller may see and the filter selects,
// newest first.
func (c *Cloud) Backups(call Call, all bool, filter func(*Backup) bool) []Backup {
	var list []Backup
	c.view(func() {
		c.backups.Each(func(b *Backup) bool {
			if (b.ProjectID == call.ProjectID || all && call.Admin) && (filter == nil || filter(b)) {
				list = append(list, *b)
			}
			return true
		})
	})
	newestFirst(list, func(b *Backup) uint64 { return b.Seq })
	return list
}

// ChangeBackup changes name, description, metadata or status through fn.
func (c *Cloud) ChangeBackup(call Call, id string, fn func(b *Backup)) (Backup, error) {
	var b Backup
	err := c.update(func() error {
		var err error
		if b, err = c.visibleBackup(call, id); err != nil {
			return err
		}
		fn(&b)
		b.UpdatedAt = now()
		c.backups.Put(id, b)
		return nil
	})
	return b, err
}

func (c *Cloud) visibleBackup(call Call, id string) (Backup, error) {
	b, ok := c.backups.Get(id)
	if !ok || !call.sees(b.ProjectID) {
		return Backup{}, rest.NotFound("Backup %s could not be found.", id)
	}
	return b, nil
}

func (c *Cloud) backup(id string) (b Backup, ok bool) {
	c.view(func() { b, ok = c.backups.Get(id) })
	return b, ok
}
