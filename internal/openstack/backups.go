package openstack

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// backup is Cinder's view of a backup.
type backup struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	VolumeID   string    `json:"volume_id"`
	SnapshotID string    `json:"snapshot_id"`
	Size       int64     `json:"size"`
	Status     string    `json:"status"`
	Zone       string    `json:"availability_zone"`
	Metadata   texts     `json:"metadata"`
	FailReason string    `json:"fail_reason"`
	CreatedAt  timestamp `json:"created_at"`
	Dependents bool      `json:"has_dependent_backups"`
}

func (b backup) cloud() cloud.Backup {
	return cloud.Backup{
		ID: b.ID, Name: b.Name, VolumeID: b.VolumeID, SnapshotID: b.SnapshotID,
		SizeGiB: b.Size, Status: cloud.BackupStatus(b.Status), Zone: b.Zone, Metadata: b.Metadata,
		FailReason: b.FailReason, CreatedAt: b.CreatedAt.Time, HasDependents: b.Dependents,
	}
}

func (b backup) key() string { return b.ID }

func (b backup) created() time.Time { return b.CreatedAt.Time }

func (b backup) lacks() string {
	if b.Status == "" {
		return "status"
	}
	return ""
}

type newBackup struct {
	VolumeID    string            `json:"volume_id"`
	SnapshotID  string            `json:"snapshot_id,omitempty"`
	Name        string            `json:"name,omitempty"`
	Description string            `json:"description,omitempty"`
	Zone        string            `json:"availability_zone,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Force       bool              `json:"force,omitempty"`
	Incremental bool              `json:"incremental,omitempty"`
}

// CreateBackup is one POST. Metadata, by which a backup is known again, needs
// microversion 3.43, and a zone of its own 3.51. Cinder answers with the id and
// the name alone; the rest of what is returned is as it was asked for.
func (c *Client) CreateBackup(ctx context.Context, req cloud.BackupRequest) (*cloud.Backup, error) {
	body := newBackup{
		VolumeID: req.VolumeID, SnapshotID: req.SnapshotID, Name: req.Name, Description: req.Description,
		Zone: req.Zone, Metadata: req.Metadata, Force: true, Incremental: req.Incremental,
	}
	r := call{
		operation: "create backup", resource: req.Name, metric: "backup_create", endpoint: c.now().cinder,
		method: http.MethodPost, path: []string{"backups"}, body: map[string]newBackup{"backup": body},
	}
	switch {
	case req.Zone != "":
		r.needs, r.feature = cinderBackupZone, "a backup in a zone of its own"
	case len(req.Metadata) > 0:
		r.needs, r.feature = cinderBackupMetadata, "a backup with metadata"
	}
	made, err := one[backup](ctx, c, r, "backup")
	if err != nil {
		return nil, err
	}
	b := made.cloud()
	b.Name = cmp.Or(b.Name, req.Name)
	b.VolumeID = cmp.Or(b.VolumeID, req.VolumeID)
	b.SnapshotID = cmp.Or(b.SnapshotID, req.SnapshotID)
	b.Zone = cmp.Or(b.Zone, req.Zone)
	b.Status = cmp.Or(b.Status, cloud.BackupCreating)
	if b.Metadata == nil {
		b.Metadata = body.Metadata
	}
	return &b, nil
}

// GetBackup is one GET, or none for an id that is not a UUID.
func (c *Client) GetBackup(ctx context.Context, id string) (*cloud.Backup, error) {
	r := call{
		operation: "get backup", resource: id, metric: "backup_get", endpoint: c.now().cinder,
		path: []string{"backups", id}, ids: []string{id},
	}
	if r.known() == nil {
		r.use(ctx, cinderBackupMetadata) // below it, Cinder shows none
	}
	return get[backup](ctx, c, r, "backup")
}

// ListBackups is one GET; a marker that is gone is dealt with as by
// ListVolumes.
func (c *Client) ListBackups(ctx context.Context, filter cloud.BackupFilter, page cloud.Page) ([]cloud.Backup, string, error) {
	r := call{
		operation: "list backups", resource: filter.Name, metric: "backup_list", endpoint: c.now().cinder,
		path: []string{"backups", "detail"}, query: filters(page, "name", filter.Name, "volume_id", filter.VolumeID),
	}
	r.use(ctx, cinderBackupMetadata)
	wanted := func(b backup) bool { return matches(b.Name, filter.Name, b.VolumeID, filter.VolumeID) }
	return listFrom(ctx, c, r, "backups", page, wanted, nil)
}

// DeleteBackup is one DELETE.
func (c *Client) DeleteBackup(ctx context.Context, id string) error {
	return c.remove(ctx, "backup", "backups", id)
}
