package state

import (
	"slices"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// CompleteAttachment ends what Reserve has begun, as somebody does who attaches a volume
// without Nova: the volume is in use. An attachment that Nova has, and Cinder doesn't know,
// is this one from then on, and can be detached.
func (c *Cloud) CompleteAttachment(call Call, volumeID, attachmentID string) error {
	return c.update(func() error {
		v, err := c.visibleVolume(call, volumeID)
		if err != nil {
			return err
		}
		a, ok := v.attachment(attachmentID)
		if !ok || a.Status != reserved && a.Status != attaching {
			return rest.BadRequest("Invalid attachment: Attachment %s cannot be completed.", attachmentID)
		}
		a.Status, a.AttachedAt = attached, now()
		v.setAttachment(a)
		v.Status, v.UpdatedAt = "in-use", now()
		c.volumes.Put(v.ID, v)
		s, ok := c.servers.Get(a.ServerID)
		if !ok {
			return nil
		}
		s.Disks = slices.Clone(s.Disks)
		for i, d := range s.Disks {
			if _, known := v.attachment(d.AttachmentID); d.VolumeID == v.ID && !known {
				s.Disks[i].AttachmentID = a.ID
			}
		}
		c.servers.Put(s.ID, s)
		return nil
	})
}
