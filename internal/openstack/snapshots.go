package openstack

import (
	"context"
	"net/http"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// snapshot is Cinder's view of a snapshot.
type snapshot struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	VolumeID    string            `json:"volume_id"`
	Size        int64             `json:"size"`
	Status      string            `json:"status"`
	Metadata    map[string]string `json:"metadata"`
	CreatedAt   timestamp         `json:"created_at"`
}

func (s snapshot) cloud() cloud.Snapshot {
	return cloud.Snapshot{
		ID: s.ID, Name: s.Name, Description: s.Description, VolumeID: s.VolumeID, SizeGiB: s.Size,
		Status: cloud.SnapshotStatus(s.Status), Metadata: s.Metadata, CreatedAt: s.CreatedAt.Time,
	}
}

func (s snapshot) place() (string, time.Time) { return s.ID, s.CreatedAt.Time }

type snapshotAnswer struct {
	Snapshot snapshot `json:"snapshot"`
}

type newSnapshot struct {
	VolumeID    string            `json:"volume_id"`
	Name        string            `json:"name,omitempty"`
	Description string            `json:"description,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Force       bool              `json:"force,omitempty"`
}

// CreateSnapshot is one POST. From microversion 3.66 on a volume in use needs
// no force, and Cinder takes the word amiss.
func (c *Client) CreateSnapshot(ctx context.Context, req cloud.SnapshotRequest) (*cloud.Snapshot, error) {
	var answer snapshotAnswer
	r := call{
		operation: "create snapshot", resource: req.Name, metric: "snapshot_create", endpoint: c.now().cinder,
		method: http.MethodPost, path: []string{"snapshots"},
		answer: &answer, accept: []int{http.StatusOK, http.StatusAccepted},
	}
	if err := r.endpoint.learn(ctx); err != nil {
		return nil, r.failure(err)
	}
	r.body = map[string]newSnapshot{"snapshot": {
		VolumeID: req.VolumeID, Name: req.Name, Description: req.Description, Metadata: req.Metadata,
		Force: req.Force && r.endpoint.plain < cinderForceless,
	}}
	if err := c.do(ctx, r); err != nil {
		return nil, err
	}
	if answer.Snapshot.ID == "" {
		return nil, r.unexpected("the answer names no snapshot")
	}
	s := answer.Snapshot.cloud()
	return &s, nil
}

// GetSnapshot is one GET, or none for an id that is not a UUID.
func (c *Client) GetSnapshot(ctx context.Context, id string) (*cloud.Snapshot, error) {
	var answer snapshotAnswer
	r := call{
		operation: "get snapshot", resource: id, metric: "snapshot_get", endpoint: c.now().cinder,
		method: http.MethodGet, path: []string{"snapshots", id}, answer: &answer, accept: []int{http.StatusOK},
	}
	if err := r.known(id); err != nil {
		return nil, err
	}
	if err := c.do(ctx, r); err != nil {
		return nil, err
	}
	if !sameID(answer.Snapshot.ID, id) {
		return nil, r.unexpected("the answer is about snapshot %q", answer.Snapshot.ID)
	}
	s := answer.Snapshot.cloud()
	return &s, nil
}

// ListSnapshots is one GET; a marker that is gone is dealt with as by
// ListVolumes.
func (c *Client) ListSnapshots(ctx context.Context, filter cloud.SnapshotFilter, page cloud.Page) ([]cloud.Snapshot, string, error) {
	r := call{
		operation: "list snapshots", resource: filter.Name, metric: "snapshot_list", endpoint: c.now().cinder,
		method: http.MethodGet, path: []string{"snapshots"},
		query: filters(page, "name", filter.Name, "volume_id", filter.VolumeID),
	}
	listed, next, err := listFrom[snapshot](ctx, c, r, "snapshots", page, nil)
	if err != nil {
		return nil, "", err
	}
	snapshots := make([]cloud.Snapshot, 0, len(listed))
	for _, s := range listed {
		if matches(s.Name, filter.Name, s.VolumeID, filter.VolumeID) {
			snapshots = append(snapshots, s.cloud())
		}
	}
	return snapshots, next, nil
}

// DeleteSnapshot is one DELETE.
func (c *Client) DeleteSnapshot(ctx context.Context, id string) error {
	return c.remove(ctx, "snapshot", "snapshots", id)
}
