package cloudtest

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// CreateSnapshot implements cloud.Snapshots.
func (c *Cloud) CreateSnapshot(ctx context.Context, req cloud.SnapshotRequest) (*cloud.Snapshot, error) {
	var made cloud.Snapshot
	err := c.request(ctx, "snapshot.create", req.Name, func() error {
		v := c.volumes[req.VolumeID]
		if v == nil {
			return refuse(cloud.ErrNotFound, "create snapshot", req.Name, "Volume "+req.VolumeID+" could not be found.")
		}
		if v.Status != cloud.VolumeAvailable && v.Status != cloud.VolumeInUse {
			return refuse(cloud.ErrInvalid, "create snapshot", req.Name, "Invalid volume: status is "+string(v.Status))
		}
		s := &snapshot{Snapshot: cloud.Snapshot{
			ID: uuid.NewString(), Name: req.Name, VolumeID: v.ID, SizeGiB: v.SizeGiB,
			Status: cloud.SnapshotCreating, Metadata: maps.Clone(req.Metadata), CreatedAt: c.now(),
		}}
		c.snapshots[s.ID] = s
		c.thenSnapshot(s, "snapshot.create", c.Latency.Snapshot, func() { s.Status = cloud.SnapshotAvailable })
		made = s.Snapshot
		return nil
	})
	return &made, err
}

func (c *Cloud) thenSnapshot(s *snapshot, op string, d time.Duration, done func()) {
	fault := c.outcome(op)
	if fault != nil && fault.Outcome == "stuck" {
		return
	}
	s.pending = append(s.pending, step{time.Now().Add(c.Latency.of(d)), func() {
		if fault != nil {
			s.Status, s.fault = cloud.SnapshotStatus(fault.Outcome), told(fault.Cause)
			return
		}
		done()
	}})
}

// GetSnapshot implements cloud.Snapshots.
func (c *Cloud) GetSnapshot(ctx context.Context, id string) (*cloud.Snapshot, error) {
	var found cloud.Snapshot
	err := c.request(ctx, "snapshot.get", id, func() error {
		s := c.snapshots[id]
		if s == nil {
			return refuse(cloud.ErrNotFound, "get snapshot", id, "")
		}
		found = s.Snapshot
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &found, nil
}

// ListSnapshots implements cloud.Snapshots.
func (c *Cloud) ListSnapshots(ctx context.Context, filter cloud.SnapshotFilter, page cloud.Page) ([]cloud.Snapshot, string, error) {
	var all []cloud.Snapshot
	var next string
	err := c.request(ctx, "snapshot.list", "", func() error {
		for _, s := range c.snapshots {
			if (filter.Name == "" || filter.Name == s.Name) && (filter.VolumeID == "" || filter.VolumeID == s.VolumeID) {
				all = append(all, s.Snapshot)
			}
		}
		slices.SortFunc(all, func(a, b cloud.Snapshot) int { return b.CreatedAt.Compare(a.CreatedAt) })
		var err error
		all, next, err = paginate(all, page, func(s cloud.Snapshot) string { return s.ID })
		return err
	})
	return all, next, err
}

// DeleteSnapshot implements cloud.Snapshots. One that volumes were made from
// goes back to available, as with Ceph.
func (c *Cloud) DeleteSnapshot(ctx context.Context, id string) error {
	return c.request(ctx, "snapshot.delete", id, func() error {
		s := c.snapshots[id]
		if s == nil {
			return refuse(cloud.ErrNotFound, "delete snapshot", id, "")
		}
		s.Status = cloud.SnapshotDeleting
		c.thenSnapshot(s, "snapshot.delete", c.Latency.Snapshot, func() {
			for _, v := range c.volumes {
				if v.SnapshotID == id {
					s.Status, s.fault = cloud.SnapshotAvailable, told("delete snapshot:Snapshot is busy.")
					return
				}
			}
			s.gone = true
		})
		return nil
	})
}

// SnapshotFault implements cloud.Snapshots.
func (c *Cloud) SnapshotFault(ctx context.Context, id string) (cloud.Fault, error) {
	var cause cloud.Fault
	err := c.request(ctx, "message.list", id, func() error {
		if s := c.snapshots[id]; s != nil {
			cause = s.fault
		}
		return nil
	})
	return cause, err
}

// CreateBackup implements cloud.Backups.
func (c *Cloud) CreateBackup(ctx context.Context, req cloud.BackupRequest) (*cloud.Backup, error) {
	var made cloud.Backup
	err := c.request(ctx, "backup.create", req.Name, func() error {
		v := c.volumes[req.VolumeID]
		if v == nil {
			return refuse(cloud.ErrNotFound, "create backup", req.Name, "Volume "+req.VolumeID+" could not be found.")
		}
		b := &backup{Backup: cloud.Backup{
			ID: uuid.NewString(), Name: req.Name, VolumeID: v.ID, SnapshotID: req.SnapshotID, SizeGiB: v.SizeGiB,
			Status: cloud.BackupCreating, Zone: req.Zone, Metadata: maps.Clone(req.Metadata), CreatedAt: c.now(),
		}}
		c.backups[b.ID] = b
		fault := c.outcome("backup.create")
		if fault == nil || fault.Outcome != "stuck" {
			b.pending = append(b.pending, step{time.Now().Add(c.Latency.Backup), func() {
				b.Status = cloud.BackupAvailable
				if fault != nil {
					b.Status, b.FailReason = cloud.BackupStatus(fault.Outcome), fault.Cause
				}
			}})
		}
		made = b.Backup
		return nil
	})
	return &made, err
}

// GetBackup implements cloud.Backups.
func (c *Cloud) GetBackup(ctx context.Context, id string) (*cloud.Backup, error) {
	var found cloud.Backup
	err := c.request(ctx, "backup.get", id, func() error {
		b := c.backups[id]
		if b == nil {
			return refuse(cloud.ErrNotFound, "get backup", id, "")
		}
		found = b.Backup
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &found, nil
}

// ListBackups implements cloud.Backups.
func (c *Cloud) ListBackups(ctx context.Context, filter cloud.BackupFilter, page cloud.Page) ([]cloud.Backup, string, error) {
	var all []cloud.Backup
	var next string
	err := c.request(ctx, "backup.list", "", func() error {
		for _, b := range c.backups {
			if (filter.Name == "" || filter.Name == b.Name) && (filter.VolumeID == "" || filter.VolumeID == b.VolumeID) {
				all = append(all, b.Backup)
			}
		}
		slices.SortFunc(all, func(a, b cloud.Backup) int { return b.CreatedAt.Compare(a.CreatedAt) })
		var err error
		all, next, err = paginate(all, page, func(b cloud.Backup) string { return b.ID })
		return err
	})
	return all, next, err
}

// DeleteBackup implements cloud.Backups.
func (c *Cloud) DeleteBackup(ctx context.Context, id string) error {
	return c.request(ctx, "backup.delete", id, func() error {
		b := c.backups[id]
		if b == nil {
			return refuse(cloud.ErrNotFound, "delete backup", id, "")
		}
		if b.Status != cloud.BackupAvailable && b.Status != cloud.BackupError {
			return refuse(cloud.ErrInvalid, "delete backup", id, "Invalid backup: Backup status must be available or error")
		}
		b.Status = cloud.BackupDeleting
		b.pending = append(b.pending, step{time.Now().Add(c.Latency.Snapshot), func() { b.gone = true }})
		return nil
	})
}
