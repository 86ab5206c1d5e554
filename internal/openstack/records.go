package openstack

import (
	"context"
	"net/http"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// ListAttachmentRecords is one GET per 1000 records. It needs microversion 3.27.
func (c *Client) ListAttachmentRecords(ctx context.Context, volumeID string) ([]cloud.AttachmentRecord, error) {
	r := call{
		operation: "list attachment records of volume", resource: volumeID, metric: "attachment_record_list", endpoint: c.now().cinder,
		method: http.MethodGet, path: []string{"attachments"},
	}
	if err := r.known(volumeID); err != nil {
		return nil, err
	}
	if err := r.need(ctx, cinderAttachments, "reading attachment records"); err != nil {
		return nil, err
	}
	var records []cloud.AttachmentRecord
	for page := (cloud.Page{}); ; {
		r.query = filters(page, "volume_id", volumeID)
		listed, next, err := list[struct {
			ID       string `json:"id"`
			Status   string `json:"status"`
			Instance string `json:"instance"`
			VolumeID string `json:"volume_id"`
		}](ctx, c, r, "attachments", page)
		if err != nil {
			return nil, err
		}
		for _, a := range listed {
			if sameID(a.VolumeID, volumeID) {
				records = append(records, cloud.AttachmentRecord{ID: a.ID, VolumeID: a.VolumeID, ServerID: a.Instance, Status: a.Status})
			}
		}
		if next == "" {
			return records, nil
		}
		page.Marker = next
	}
}

// DeleteAttachmentRecord is one DELETE. It needs microversion 3.27.
func (c *Client) DeleteAttachmentRecord(ctx context.Context, id string) error {
	r := call{
		operation: "delete attachment record", resource: id, metric: "attachment_record_delete", endpoint: c.now().cinder,
		method: http.MethodDelete, path: []string{"attachments", id},
		accept: []int{http.StatusOK, http.StatusAccepted, http.StatusNoContent},
	}
	if err := r.known(id); err != nil {
		return err
	}
	if err := r.need(ctx, cinderAttachments, "deleting an attachment record"); err != nil {
		return err
	}
	return c.do(ctx, r)
}
