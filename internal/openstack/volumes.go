package openstack

import (
	"context"
	"net/http"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// volume is Cinder's view of a volume.
type volume struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	Description  string            `json:"description"`
	Size         int64             `json:"size"`
	Status       string            `json:"status"`
	Type         string            `json:"volume_type"`
	Zone         string            `json:"availability_zone"`
	SnapshotID   string            `json:"snapshot_id"`
	SourceVolume string            `json:"source_volid"`
	BackupID     string            `json:"backup_id"`
	Metadata     map[string]string `json:"metadata"`
	Multiattach  bool              `json:"multiattach"`
	CreatedAt    timestamp         `json:"created_at"`
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
		ID: v.ID, Name: v.Name, Description: v.Description, SizeGiB: v.Size,
		Status: cloud.VolumeStatus(v.Status), Type: v.Type, Zone: v.Zone,
		SnapshotID: v.SnapshotID, SourceVolumeID: v.SourceVolume, BackupID: v.BackupID,
		Metadata: v.Metadata, Multiattach: v.Multiattach, CreatedAt: v.CreatedAt.Time,
	}
	if result.BackupID == "" && result.SnapshotID == "" && result.SourceVolumeID == "" {
		result.BackupID = v.Metadata[restoredFrom]
	}
	for _, a := range v.Attachments {
		result.Attachments = append(result.Attachments, cloud.Attachment{ID: a.ID, ServerID: a.ServerID, Device: a.Device})
	}
	return result
}

func (v volume) place() (string, time.Time) { return v.ID, v.CreatedAt.Time }

type volumeAnswer struct {
	Volume volume `json:"volume"`
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
	var answer volumeAnswer
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
		answer: &answer, accept: []int{http.StatusOK, http.StatusAccepted},
	}
	if req.BackupID != "" {
		if err := r.need(ctx, cinderFromBackup, "a volume from a backup"); err != nil {
			return nil, err
		}
	}
	if err := c.do(ctx, r); err != nil {
		return nil, err
	}
	if answer.Volume.ID == "" {
		return nil, r.unexpected("the answer names no volume")
	}
	v := answer.Volume.cloud()
	return &v, nil
}

// GetVolume is one GET, or none for an id that is not a UUID.
func (c *Client) GetVolume(ctx context.Context, id string) (*cloud.Volume, error) {
	var answer volumeAnswer
	r := call{
		operation: "get volume", resource: id, metric: "volume_get", endpoint: c.now().cinder,
		method: http.MethodGet, path: []string{"volumes", id}, answer: &answer, accept: []int{http.StatusOK},
	}
	if err := r.known(id); err != nil {
		return nil, err
	}
	if err := c.do(ctx, r); err != nil {
		return nil, err
	}
	if !sameID(answer.Volume.ID, id) {
		return nil, r.unexpected("the answer is about volume %q", answer.Volume.ID)
	}
	v := answer.Volume.cloud()
	return &v, nil
}

// ListVolumes is one GET. A marker that is gone is an ErrNotFound, unless the
// page tells when it was created: the place is found again then, by another GET.
func (c *Client) ListVolumes(ctx context.Context, filter cloud.VolumeFilter, page cloud.Page) ([]cloud.Volume, string, error) {
	r := call{
		operation: "list volumes", resource: filter.Name, metric: "volume_list", endpoint: c.now().cinder,
		method: http.MethodGet, path: []string{"volumes", "detail"},
	}
	r.query = filters(page, "name", filter.Name)
	if page.Recent {
		r.query.Set("sort", "updated_at:desc")
	}
	listed, next, err := listFrom[volume](ctx, c, r, "volumes", page, func(r *call) {
		// From microversion 3.60 on Cinder leaves out what is newer.
		if r.use(ctx, cinderTimeFilter) {
			r.query.Set("created_at", "lte:"+page.MarkerCreated.UTC().Format(cinderTime))
		}
	})
	if err != nil {
		return nil, "", err
	}
	volumes := make([]cloud.Volume, 0, len(listed))
	for _, v := range listed {
		if matches(v.Name, filter.Name) {
			volumes = append(volumes, v.cloud())
		}
	}
	return volumes, next, nil
}

// cinderTime is how Cinder reads a time in a filter.
const cinderTime = "2006-01-02T15:04:05.999999"

// ExtendVolume is one POST.
func (c *Client) ExtendVolume(ctx context.Context, id string, sizeGiB int64, inUse bool) error {
	r := call{
		operation: "extend volume", resource: id, metric: "volume_expand", endpoint: c.now().cinder,
		method: http.MethodPost, path: []string{"volumes", id, "action"},
		body:   map[string]any{"os-extend": map[string]int64{"new_size": sizeGiB}},
		accept: []int{http.StatusOK, http.StatusAccepted},
	}
	if err := r.known(id); err != nil {
		return err
	}
	if inUse {
		if err := r.dare(ctx, cinderExtendInUse, "growing an attached volume"); err != nil {
			return err
		}
	}
	return c.do(ctx, r)
}

// DeleteVolume is one DELETE.
func (c *Client) DeleteVolume(ctx context.Context, id string) error {
	return c.remove(ctx, "volume", "volumes", id)
}

// remove deletes one thing of Cinder.
func (c *Client) remove(ctx context.Context, what, collection, id string) error {
	r := call{
		operation: "delete " + what, resource: id, metric: what + "_delete", endpoint: c.now().cinder,
		method: http.MethodDelete, path: []string{collection, id},
		accept: []int{http.StatusOK, http.StatusAccepted, http.StatusNoContent},
	}
	if err := r.known(id); err != nil {
		return err
	}
	return c.do(ctx, r)
}
