package openstack

import (
	"context"
	"net/http"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// record is Cinder's view of an attachment.
type record struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Instance string `json:"instance"`
	VolumeID string `json:"volume_id"`
}

func (a record) key() string { return a.ID }

// ListAttachmentRecords is one GET per 1000 records. It needs microversion 3.27.
func (c *Client) ListAttachmentRecords(ctx context.Context, volumeID string) ([]cloud.AttachmentRecord, error) {
	listed, err := all[record](ctx, c, call{
		operation: "list attachment records of volume", resource: volumeID, metric: "attachment_record_list", endpoint: c.now().cinder,
		path: []string{"attachments"}, ids: []string{volumeID}, needs: cinderAttachments, feature: "reading attachment records",
	}, "attachments", "volume_id", volumeID)
	if err != nil {
		return nil, err
	}
	var records []cloud.AttachmentRecord
	for _, a := range listed {
		if sameID(a.VolumeID, volumeID) {
			records = append(records, cloud.AttachmentRecord{ID: a.ID, VolumeID: a.VolumeID, ServerID: a.Instance, Status: a.Status})
		}
	}
	return records, nil
}

// DeleteAttachmentRecord is one DELETE. It needs microversion 3.27.
func (c *Client) DeleteAttachmentRecord(ctx context.Context, id string) error {
	return c.do(ctx, call{
		operation: "delete attachment record", resource: id, metric: "attachment_record_delete", endpoint: c.now().cinder,
		method: http.MethodDelete, path: []string{"attachments", id}, ids: []string{id},
		needs: cinderAttachments, feature: "deleting an attachment record",
	})
}
