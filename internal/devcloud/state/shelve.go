package state

import "github.com/cinder-csi/cinder-csi/internal/devcloud/rest"

// offloaded is the status of a server that is shelved and on no host: Nova's API
// attaches and detaches on its own, in its records only.
const offloaded = "SHELVED_OFFLOADED"

// offload takes a server from its host: its volumes are reserved for it.
func (c *Cloud) offload(s Server) error {
	for _, d := range s.Disks {
		if err := c.plane.Detach(s.Key, d.VolumeID); err != nil {
			return err
		}
	}
	return c.changeAttachments(s, reserved)
}

// unshelve brings the volumes of a server back with it.
func (c *Cloud) unshelve(s Server) error {
	for _, d := range s.Disks {
		if err := c.plane.Attach(s.Key, d.VolumeID); err != nil {
			return err
		}
	}
	return c.changeAttachments(s, attached)
}

// changeAttachments gives all attachments of a server a status.
func (c *Cloud) changeAttachments(s Server, status string) error {
	return c.update(func() error {
		for _, d := range s.Disks {
			v, ok := c.volumes.Get(d.VolumeID)
			if !ok {
				continue
			}
			if a, ok := v.attachment(d.AttachmentID); ok {
				a.Status = status
				v.setAttachment(a)
				v.Status, v.UpdatedAt = v.settled(), now()
				c.volumes.Put(v.ID, v)
			}
		}
		return nil
	})
}

// attachOffloaded records an attachment to a server that is on no host. Only in an
// update.
func (c *Cloud) attachOffloaded(call Call, s Server, v Volume, disk Disk) error {
	if v.Multiattach {
		return rest.BadRequest("Attaching multiattach volumes is not supported for shelved-offloaded instances.")
	}
	s.Disks = append(s.Disks[:len(s.Disks):len(s.Disks)], disk)
	c.servers.Put(s.ID, s)
	v.setAttachment(Attachment{ID: disk.AttachmentID, ServerID: s.ID, Status: attached, AttachedAt: now()})
	v.Status, v.UpdatedAt = "in-use", now()
	c.volumes.Put(v.ID, v)
	c.act(call, s.ID, "attach_volume", true, false)
	return nil
}

// detachOffloaded forgets an attachment to a server that is on no host. Only in an
// update.
func (c *Cloud) detachOffloaded(call Call, s Server, d Disk) {
	c.releaseVolume(d.VolumeID, d.AttachmentID)
	s.dropDisk(d.AttachmentID)
	c.servers.Put(s.ID, s)
	c.act(call, s.ID, "detach_volume", true, false)
}
