package state

import (
	"context"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// RestoreBackup accepts the restoration of a backup onto a volume, or onto a
// new one where volumeID is empty.
func (c *Cloud) RestoreBackup(call Call, backupID, volumeID, name string) (Volume, error) {
	var v Volume
	err := c.update(func() error {
		b, err := c.visibleBackup(call, backupID)
		if err != nil {
			return err
		}
		if b.Status != "available" {
			return rest.BadRequest("Invalid backup: Backup status must be available")
		}
		if volumeID == "" {
			v, err = c.newRestored(call, b, name)
		} else {
			v, err = c.visibleVolume(call, volumeID)
		}
		if err != nil {
			return err
		}
		if volumeID != "" && v.Status != "available" {
			return rest.BadRequest("Invalid volume: Volume to be restored to must be available")
		}
		if v.Size < b.Size {
			return rest.BadRequest("Invalid volume: volume size %d is too small to restore backup of size %d.", v.Size, b.Size)
		}
		v.Status, v.UpdatedAt = "restoring-backup", now()
		c.volumes.Put(v.ID, v)
		b.Status, b.UpdatedAt = "restoring", now()
		c.backups.Put(b.ID, b)
		c.start(Task{Kind: taskRestoreBackup, Call: call, VolumeID: v.ID, BackupID: b.ID})
		return nil
	})
	return v, err
}

func (c *Cloud) newRestored(call Call, b Backup, name string) (Volume, error) {
	if name == "" {
		name = "restore_backup_" + b.ID
	}
	v, err := c.newVolume(call, VolumeSpec{Name: &name, Description: Text("auto-created_from_restore_from_backup"), Size: b.Size})
	if err != nil {
		return v, err
	}
	kind, _ := c.types.Get(v.TypeID)
	v.Host = poolOf(v.Zone, kind.Backend)
	return v, c.checkVolumeQuota(v)
}

// restoreBackup is the task that restores a backup.
func (c *Cloud) restoreBackup(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "backup.restoring"); err != nil {
		return err
	}
	end := t.endIn()
	v, ok := c.rawVolume(t.VolumeID)
	if end == "" && ok {
		if err := c.plane.RestoreVolume(v.ID, t.BackupID, v.Size*GiB); err != nil {
			c.logFailure(t, err)
			end = "error_restoring"
		}
	}
	return c.settle(t, func() {
		if b, ok := c.backups.Get(t.BackupID); ok {
			b.Status, b.UpdatedAt = "available", now()
			c.backups.Put(b.ID, b)
		}
		v, ok := c.volumes.Get(t.VolumeID)
		if !ok {
			return
		}
		v.Status, v.UpdatedAt = "available", now()
		v.Metadata = with(v.Metadata, "src_backup_id", t.BackupID)
		if end != "" {
			v.Status = end
		}
		c.volumes.Put(v.ID, v)
	})
}
