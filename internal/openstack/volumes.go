package openstack

import (
	"context"
	"net/http"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// volume is Cinder's view of a volume.
type volume struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Size         int64     `json:"size"`
	Status       string    `json:"status"`
	Type         string    `json:"volume_type"`
	Zone         string    `json:"availability_zone"`
	SnapshotID   string    `json:"snapshot_id"`
	SourceVolume string    `json:"source_volid"`
	BackupID     string    `json:"backup_id"`
	Metadata     texts     `json:"metadata"`
	Multiattach  truth     `json:"multiattach"`
	CreatedAt    timestamp `json:"created_at"`
	Attachments  []struct {
		ID       string `json:"attachment_id"`
		ServerID string `json:"server_id"`
		Device   string `json:"device"`
	} `json:"attachments"`
}

// restoredFrom is the metadata key by which Cinder tells what backup a volume
// was restored from, on clouds that have no field for it.
const restoredFrom = "src_backup_id"

func (v volume) cloud() cloud.Volume {
	result := cloud.Volume{
		ID: v.ID, Name: v.Name, SizeGiB: v.Size,
		Status: cloud.VolumeStatus(v.Status), Type: v.Type, Zone: v.Zone,
		SnapshotID: v.SnapshotID, SourceVolumeID: v.SourceVolume, BackupID: v.BackupID,
		Metadata: v.Metadata, Multiattach: bool(v.Multiattach), CreatedAt: v.CreatedAt.Time,
	}
	if result.BackupID == "" && result.SnapshotID == "" && result.SourceVolumeID == "" {
		result.BackupID = v.Metadata[restoredFrom]
	}
	for _, a := range v.Attachments {
		result.Attachments = append(result.Attachments, cloud.Attachment{ID: a.ID, ServerID: a.ServerID, Device: a.Device})
	}
	return result
}

func (v volume) key() string { return v.ID }

func (v volume) created() time.Time { return v.CreatedAt.Time }

func (v volume) lacks() string {
	switch {
	case v.Size < 1:
		return "size"
	case v.Status == "":
		return "status"
	}
	return ""
}

type newVolume struct {
	Name         string            `json:"name,omitempty"`
	Description  string            `json:"description,omitempty"`
	Size         int64             `json:"size"`
	Type         string            `json:"volume_type,omitempty"`
	Zone         string            `json:"availability_zone,omitempty"`
	SnapshotID   string            `json:"snapshot_id,omitempty"`
	SourceVolume string            `json:"source_volid,omitempty"`
	BackupID     string            `json:"backup_id,omitempty"`
	Metadata     map[string]string `json:"metadata,omitempty"`
}

type schedulerHints struct {
	SameHost      []string `json:"same_host,omitempty"`
	DifferentHost []string `json:"different_host,omitempty"`
}

// CreateVolume is one POST. A volume from a backup needs microversion 3.47:
// Cinder would pass over the backup below it and make an empty volume.
func (c *Client) CreateVolume(ctx context.Context, req cloud.VolumeRequest) (*cloud.Volume, error) {
	body := struct {
		Volume newVolume       `json:"volume"`
		Hints  *schedulerHints `json:"OS-SCH-HNT:scheduler_hints,omitempty"`
	}{Volume: newVolume{
		Name: req.Name, Description: req.Description, Size: req.SizeGiB, Type: req.Type, Zone: req.Zone,
		SnapshotID: req.SnapshotID, SourceVolume: req.SourceVolumeID, BackupID: req.BackupID, Metadata: req.Metadata,
	}}
	if len(req.SameHost)+len(req.DifferentHost) > 0 {
		body.Hints = &schedulerHints{SameHost: req.SameHost, DifferentHost: req.DifferentHost}
	}
	r := call{
		operation: "create volume", resource: req.Name, metric: "volume_create", endpoint: c.now().cinder,
		method: http.MethodPost, path: []string{"volumes"}, body: body,
	}
	if req.BackupID != "" {
		r.needs, r.feature = cinderFromBackup, "a volume from a backup"
	}
	made, err := one[volume](ctx, c, r, "volume")
	if err != nil {
		return nil, err
	}
	v := made.cloud()
	return &v, nil
}

// GetVolume is one GET, or none for an id that is not a UUID.
func (c *Client) GetVolume(ctx context.Context, id string) (*cloud.Volume, error) {
	return get[volume](ctx, c, call{
		operation: "get volume", resource: id, metric: "volume_get", endpoint: c.now().cinder,
		path: []string{"volumes", id}, ids: []string{id},
	}, "volume")
}

// ListVolumes is one GET. A marker that is gone is an ErrNotFound, unless the
// page tells when it was created: the place is found again then, by another GET.
func (c *Client) ListVolumes(ctx context.Context, filter cloud.VolumeFilter, page cloud.Page) ([]cloud.Volume, string, error) {
	r := call{
		operation: "list volumes", resource: filter.Name, metric: "volume_list", endpoint: c.now().cinder,
		path: []string{"volumes", "detail"}, query: filters(page, "name", filter.Name),
	}
	if page.Recent {
		r.query.Set("sort", "updated_at:desc")
	}
	return listFrom(ctx, c, r, "volumes", page, func(v volume) bool { return matches(v.Name, filter.Name) }, func(r *call) {
		// From microversion 3.60 on Cinder leaves out what is newer.
		if r.use(ctx, cinderTimeFilter) {
			r.query.Set("created_at", "lte:"+page.MarkerCreated.UTC().Format(cinderTime))
		}
	})
}

// cinderTime is how Cinder reads a time in a filter.
const cinderTime = "2006-01-02T15:04:05.999999"

// ExtendVolume is one POST.
func (c *Client) ExtendVolume(ctx context.Context, id string, sizeGiB int64, inUse bool) error {
	r := c.action("extend volume", "volume_expand", id, map[string]any{"os-extend": map[string]int64{"new_size": sizeGiB}})
	if inUse {
		r.needs, r.feature, r.dares = cinderExtendInUse, "growing an attached volume", true
	}
	return c.do(ctx, r)
}

// action is a POST of an action on a volume.
func (c *Client) action(operation, metric, id string, body any) call {
	return call{
		operation: operation, resource: id, metric: metric, endpoint: c.now().cinder,
		method: http.MethodPost, path: []string{"volumes", id, "action"}, ids: []string{id}, body: body,
	}
}

// DeleteVolume is one DELETE.
func (c *Client) DeleteVolume(ctx context.Context, id string) error {
	return c.remove(ctx, "volume", "volumes", id)
}

// remove deletes one thing of Cinder.
func (c *Client) remove(ctx context.Context, what, collection, id string) error {
	return c.do(ctx, call{
		operation: "delete " + what, resource: id, metric: what + "_delete", endpoint: c.now().cinder,
		method: http.MethodDelete, path: []string{collection, id}, ids: []string{id},
	})
}
