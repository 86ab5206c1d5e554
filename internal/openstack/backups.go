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
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	VolumeID    string            `json:"volume_id"`
	SnapshotID  string            `json:"snapshot_id"`
	Size        int64             `json:"size"`
	Status      string            `json:"status"`
	Zone        string            `json:"availability_zone"`
	Metadata    map[string]string `json:"metadata"`
	FailReason  string            `json:"fail_reason"`
	CreatedAt   timestamp         `json:"created_at"`
	Dependents  bool              `json:"has_dependent_backups"`
}

func (b backup) cloud() cloud.Backup {
	return cloud.Backup{
		ID: b.ID, Name: b.Name, Description: b.Description, VolumeID: b.VolumeID, SnapshotID: b.SnapshotID,
		SizeGiB: b.Size, Status: cloud.BackupStatus(b.Status), Zone: b.Zone, Metadata: b.Metadata,
		FailReason: b.FailReason, CreatedAt: b.CreatedAt.Time, HasDependents: b.Dependents,
	}
}

func (b backup) place() (string, time.Time) { return b.ID, b.CreatedAt.Time }

type backupAnswer struct {
	Backup backup `json:"backup"`
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
	var answer backupAnswer
	body := newBackup{
		VolumeID: req.VolumeID, SnapshotID: req.SnapshotID, Name: req.Name, Description: req.Description,
		Zone: req.Zone, Metadata: req.Metadata, Force: req.Force, Incremental: req.Incremental,
	}
	r := call{
		operation: "create backup", resource: req.Name, metric: "backup_create", endpoint: c.now().cinder,
		method: http.MethodPost, path: []string{"backups"},
		answer: &answer, accept: []int{http.StatusOK, http.StatusAccepted},
	}
	if len(req.Metadata) > 0 {
		if err := r.need(ctx, cinderBackupMetadata, "a backup with metadata"); err != nil {
			return nil, err
		}
	}
	if req.Zone != "" {
		if err := r.need(ctx, cinderBackupZone, "a backup in a zone of its own"); err != nil {
			return nil, err
		}
	}
	r.body = map[string]newBackup{"backup": body}
	if err := c.do(ctx, r); err != nil {
		return nil, err
	}
	if answer.Backup.ID == "" {
		return nil, r.unexpected("the answer names no backup")
	}
	b := answer.Backup.cloud()
	b.Name = cmp.Or(b.Name, req.Name)
	b.Description = cmp.Or(b.Description, req.Description)
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
	var answer backupAnswer
	r := call{
		operation: "get backup", resource: id, metric: "backup_get", endpoint: c.now().cinder,
		method: http.MethodGet, path: []string{"backups", id}, answer: &answer, accept: []int{http.StatusOK},
	}
	if err := r.known(id); err != nil {
		return nil, err
	}
	r.use(ctx, cinderBackupMetadata) // below it, Cinder shows none
	if err := c.do(ctx, r); err != nil {
		return nil, err
	}
	if !sameID(answer.Backup.ID, id) {
		return nil, r.unexpected("the answer is about backup %q", answer.Backup.ID)
	}
	b := answer.Backup.cloud()
	return &b, nil
}

// ListBackups is one GET; a marker that is gone is dealt with as by
// ListVolumes.
func (c *Client) ListBackups(ctx context.Context, filter cloud.BackupFilter, page cloud.Page) ([]cloud.Backup, string, error) {
	r := call{
		operation: "list backups", resource: filter.Name, metric: "backup_list", endpoint: c.now().cinder,
		method: http.MethodGet, path: []string{"backups", "detail"},
		query: filters(page, "name", filter.Name, "volume_id", filter.VolumeID),
	}
	r.use(ctx, cinderBackupMetadata)
	listed, next, err := listFrom[backup](ctx, c, r, "backups", page, nil)
	if err != nil {
		return nil, "", err
	}
	backups := make([]cloud.Backup, 0, len(listed))
	for _, b := range listed {
		if matches(b.Name, filter.Name, b.VolumeID, filter.VolumeID) {
			backups = append(backups, b.cloud())
		}
	}
	return backups, next, nil
}

// DeleteBackup is one DELETE.
func (c *Client) DeleteBackup(ctx context.Context, id string) error {
	return c.remove(ctx, "backup", "backups", id)
}
