package openstack

import (
	"context"
	"net/http"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// snapshot is Cinder's view of a snapshot.
type snapshot struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	VolumeID  string    `json:"volume_id"`
	Size      int64     `json:"size"`
	Status    string    `json:"status"`
	Metadata  texts     `json:"metadata"`
	CreatedAt timestamp `json:"created_at"`
}

func (s snapshot) cloud() cloud.Snapshot {
	return cloud.Snapshot{
		ID: s.ID, Name: s.Name, VolumeID: s.VolumeID, SizeGiB: s.Size,
		Status: cloud.SnapshotStatus(s.Status), Metadata: s.Metadata, CreatedAt: s.CreatedAt.Time,
	}
}

func (s snapshot) key() string { return s.ID }

func (s snapshot) created() time.Time { return s.CreatedAt.Time }

func (s snapshot) lacks() string {
	if s.Status == "" {
		return "status"
	}
	return ""
}

type newSnapshot struct {
	VolumeID    string            `json:"volume_id"`
	Name        string            `json:"name,omitempty"`
	Description string            `json:"description,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Force       bool              `json:"force,omitempty"`
}

// CreateSnapshot is one POST. Below microversion 3.66 a volume in use needs
// force, which Cinder refuses from then on.
func (c *Client) CreateSnapshot(ctx context.Context, req cloud.SnapshotRequest) (*cloud.Snapshot, error) {
	r := call{
		operation: "create snapshot", resource: req.Name, metric: "snapshot_create", endpoint: c.now().cinder,
		method: http.MethodPost, path: []string{"snapshots"},
	}
	if err := r.endpoint.learn(ctx); err != nil {
		return nil, r.failure(err)
	}
	r.body = map[string]newSnapshot{"snapshot": {
		VolumeID: req.VolumeID, Name: req.Name, Description: req.Description, Metadata: req.Metadata,
		Force: r.endpoint.normal < cinderForceless,
	}}
	made, err := one[snapshot](ctx, c, r, "snapshot")
	if err != nil {
		return nil, err
	}
	s := made.cloud()
	return &s, nil
}

// GetSnapshot is one GET, or none for an id that is not a UUID.
func (c *Client) GetSnapshot(ctx context.Context, id string) (*cloud.Snapshot, error) {
	return get[snapshot](ctx, c, call{
		operation: "get snapshot", resource: id, metric: "snapshot_get", endpoint: c.now().cinder,
		path: []string{"snapshots", id}, ids: []string{id},
	}, "snapshot")
}

// ListSnapshots is one GET; a marker that is gone is dealt with as by
// ListVolumes.
func (c *Client) ListSnapshots(ctx context.Context, filter cloud.SnapshotFilter, page cloud.Page) ([]cloud.Snapshot, string, error) {
	r := call{
		operation: "list snapshots", resource: filter.Name, metric: "snapshot_list", endpoint: c.now().cinder,
		path: []string{"snapshots"}, query: filters(page, "name", filter.Name, "volume_id", filter.VolumeID),
	}
	wanted := func(s snapshot) bool { return matches(s.Name, filter.Name, s.VolumeID, filter.VolumeID) }
	return listFrom(ctx, c, r, "snapshots", page, wanted, nil)
}

// DeleteSnapshot is one DELETE.
func (c *Client) DeleteSnapshot(ctx context.Context, id string) error {
	return c.remove(ctx, "snapshot", "snapshots", id)
}
