package volumes

import (
	"context"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// seen is a cloud of which the service remembers what passes by: the complete lists, the
// last state of what a call is about, and when a request was accepted.
type seen struct {
	cloud.Cloud
	service *Service
}

// lists are the last complete lists.
type lists struct{ volumes, snapshots, backups passing }

func (c seen) ListVolumes(ctx context.Context, filter cloud.VolumeFilter, page cloud.Page) ([]cloud.Volume, string, error) {
	asked := time.Now()
	found, next, err := c.Cloud.ListVolumes(ctx, filter, page)
	if err == nil && filter == (cloud.VolumeFilter{}) {
		byStatus := c.service.lists.volumes.page(asked, page, next, len(found), func(i int) (string, *Listed) {
			v := &found[i]
			if !c.service.owned(v.Metadata) {
				return string(v.Status), nil
			}
			keep := &Listed{ID: v.ID, Name: v.Name, Status: string(v.Status), CreatedAt: v.CreatedAt}
			for _, a := range v.Attachments {
				if a.ServerID != "" {
					keep.Servers = append(keep.Servers, a.ServerID)
				}
			}
			return string(v.Status), keep
		})
		if byStatus != nil {
			c.service.counted.count(byStatus)
		}
	}
	return found, next, err
}

func (c seen) ListSnapshots(ctx context.Context, filter cloud.SnapshotFilter, page cloud.Page) ([]cloud.Snapshot, string, error) {
	asked := time.Now()
	found, next, err := c.Cloud.ListSnapshots(ctx, filter, page)
	if err == nil && filter == (cloud.SnapshotFilter{}) {
		c.service.lists.snapshots.page(asked, page, next, len(found), func(i int) (string, *Listed) {
			o := &found[i]
			if !c.service.owned(o.Metadata) {
				return string(o.Status), nil
			}
			_, temporary := o.Metadata[temporaryKey]
			return string(o.Status), &Listed{ID: o.ID, Name: o.Name, Status: string(o.Status), VolumeID: o.VolumeID, CreatedAt: o.CreatedAt, Temporary: temporary}
		})
	}
	return found, next, err
}

func (c seen) ListBackups(ctx context.Context, filter cloud.BackupFilter, page cloud.Page) ([]cloud.Backup, string, error) {
	asked := time.Now()
	found, next, err := c.Cloud.ListBackups(ctx, filter, page)
	if err == nil && filter == (cloud.BackupFilter{}) {
		c.service.lists.backups.page(asked, page, next, len(found), func(i int) (string, *Listed) {
			o := &found[i]
			if !c.service.owned(o.Metadata) {
				return string(o.Status), nil
			}
			return string(o.Status), &Listed{ID: o.ID, Name: o.Name, Status: string(o.Status), VolumeID: o.VolumeID, CreatedAt: o.CreatedAt}
		})
	}
	return found, next, err
}

func (c seen) GetVolume(ctx context.Context, id string) (*cloud.Volume, error) {
	v, err := c.Cloud.GetVolume(ctx, id)
	if err == nil && isSubject(ctx, v.ID) {
		saw(ctx, v.ID, string(v.Status))
	}
	return v, err
}

func (c seen) CreateVolume(ctx context.Context, req cloud.VolumeRequest) (*cloud.Volume, error) {
	v, err := c.Cloud.CreateVolume(ctx, req)
	accepted(ctx, err)
	if err == nil {
		saw(ctx, v.ID, string(v.Status))
	}
	return v, err
}

func (c seen) ExtendVolume(ctx context.Context, id string, sizeGiB int64, inUse bool) error {
	err := c.Cloud.ExtendVolume(ctx, id, sizeGiB, inUse)
	accepted(ctx, err)
	return err
}

func (c seen) DeleteVolume(ctx context.Context, id string) error {
	err := c.Cloud.DeleteVolume(ctx, id)
	accepted(ctx, err)
	return err
}

func (c seen) RetypeVolume(ctx context.Context, id, volumeType string, migrate bool) error {
	err := c.Cloud.RetypeVolume(ctx, id, volumeType, migrate)
	accepted(ctx, err)
	return err
}

func (c seen) CreateSnapshot(ctx context.Context, req cloud.SnapshotRequest) (*cloud.Snapshot, error) {
	o, err := c.Cloud.CreateSnapshot(ctx, req)
	accepted(ctx, err)
	if err == nil {
		saw(ctx, o.VolumeID, string(o.Status))
	}
	return o, err
}

func (c seen) DeleteSnapshot(ctx context.Context, id string) error {
	err := c.Cloud.DeleteSnapshot(ctx, id)
	accepted(ctx, err)
	return err
}

func (c seen) CreateBackup(ctx context.Context, req cloud.BackupRequest) (*cloud.Backup, error) {
	o, err := c.Cloud.CreateBackup(ctx, req)
	accepted(ctx, err)
	if err == nil {
		saw(ctx, o.VolumeID, string(o.Status))
	}
	return o, err
}

func (c seen) DeleteBackup(ctx context.Context, id string) error {
	err := c.Cloud.DeleteBackup(ctx, id)
	accepted(ctx, err)
	return err
}

func (c seen) AttachVolume(ctx context.Context, serverID, volumeID string) (*cloud.ServerAttachment, error) {
	entry, err := c.Cloud.AttachVolume(ctx, serverID, volumeID)
	accepted(ctx, err)
	return entry, err
}

func (c seen) DetachVolume(ctx context.Context, serverID, volumeID string) error {
	err := c.Cloud.DetachVolume(ctx, serverID, volumeID)
	accepted(ctx, err)
	return err
}
