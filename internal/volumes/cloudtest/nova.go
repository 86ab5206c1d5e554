package cloudtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

const notDetachable = "Invalid volume: Invalid input received: Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach."

// GetServer implements cloud.Servers.
func (c *Cloud) GetServer(ctx context.Context, id string) (*cloud.Server, error) {
	var found cloud.Server
	err := c.request(ctx, "server.get", id, func() error {
		s := c.servers[id]
		if s == nil {
			return refuse(cloud.ErrNotFound, "get server", id, "Instance "+id+" could not be found.")
		}
		found = s.Server
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &found, nil
}

// ListAttachments implements cloud.Servers.
func (c *Cloud) ListAttachments(ctx context.Context, serverID string) ([]cloud.ServerAttachment, error) {
	var all []cloud.ServerAttachment
	err := c.request(ctx, "attachment.list", serverID, func() error {
		s := c.servers[serverID]
		if s == nil {
			return refuse(cloud.ErrNotFound, "list attachments", serverID, "")
		}
		for _, id := range s.attached {
			all = append(all, cloud.ServerAttachment{VolumeID: id})
		}
		return nil
	})
	return all, err
}

// AttachVolume implements cloud.Servers.
func (c *Cloud) AttachVolume(ctx context.Context, serverID, volumeID string) (*cloud.ServerAttachment, error) {
	err := c.request(ctx, "attachment.create", volumeID, func() error {
		s, v := c.servers[serverID], c.volumes[volumeID]
		if err := c.checkAttach(s, v, serverID, volumeID); err != nil {
			return err
		}
		s.attached = append(s.attached, volumeID)
		v.Status = cloud.VolumeReserved
		c.attach(s, v)
		return nil
	})
	return &cloud.ServerAttachment{VolumeID: volumeID, Device: "/dev/vdb"}, err
}

func (c *Cloud) checkAttach(s *server, v *volume, serverID, volumeID string) error {
	const op = "attach volume"
	switch {
	case s == nil:
		return refuse(cloud.ErrNotFound, op, volumeID, "Instance "+serverID+" could not be found.")
	case v == nil:
		return refuse(cloud.ErrNotFound, op, volumeID, "Volume "+volumeID+" could not be found.")
	case s.Status == "ERROR":
		return refuse(cloud.ErrServerState, op, volumeID, "Cannot 'attach_volume' instance while it is in vm_state error")
	case s.Status != "ACTIVE":
		return refuse(cloud.ErrConflict, op, volumeID, "Cannot 'attach_volume' instance while it is in task_state "+s.Status)
	case c.AttachLimit > 0 && len(s.attached) >= c.AttachLimit:
		return refuse(cloud.ErrAttachLimit, op, volumeID, "The maximum allowed number of disk devices to attach to a single instance has been exceeded.")
	}
	for id, other := range c.servers {
		if slices.Contains(other.attached, volumeID) && (!v.Multiattach || id == serverID) && v.Status != cloud.VolumeReserved && v.Status != cloud.VolumeAttaching {
			return refuse(cloud.ErrAlreadyAttached, op, volumeID, fmt.Sprintf("Invalid volume: volume %s is already attached to instances: %s", volumeID, id))
		}
	}
	if v.Status == cloud.VolumeAvailable || v.Multiattach && v.Status == cloud.VolumeInUse {
		return nil
	}
	return refuse(cloud.ErrWrongStatus, op, volumeID, fmt.Sprintf("Volume %s status must be available or downloading to reserve, but the current status is %s.", volumeID, v.Status))
}

// attach lets an accepted attachment happen, or fail.
func (c *Cloud) attach(s *server, v *volume) {
	fault := c.outcome("attachment.create")
	if fault != nil && fault.Outcome == "stuck" {
		return
	}
	now, takes := time.Now(), c.Latency.of(c.Latency.Attach)
	v.pending = append(v.pending,
		step{now.Add(takes / 2), func() { v.Status = cloud.VolumeAttaching }},
		step{now.Add(takes), func() {
			if fault != nil {
				c.forget(s.ID, v.ID)
				c.release(v, s.ID)
				return
			}
			v.Status = cloud.VolumeInUse
			v.Attachments = append(slices.Clone(v.Attachments), cloud.Attachment{ID: uuid.NewString(), ServerID: s.ID, Device: "/dev/vdb"})
		}})
}

// DetachVolume implements cloud.Servers.
func (c *Cloud) DetachVolume(ctx context.Context, serverID, volumeID string) error {
	return c.request(ctx, "attachment.delete", volumeID, func() error {
		s, v := c.servers[serverID], c.volumes[volumeID]
		switch {
		case s == nil:
			return refuse(cloud.ErrNotFound, "detach volume", volumeID, "Instance "+serverID+" could not be found.")
		case v == nil, !slices.Contains(s.attached, volumeID):
			return refuse(cloud.ErrNotFound, "detach volume", volumeID, "Instance "+serverID+" is not attached to volume "+volumeID)
		case s.Status == "ERROR":
			return refuse(cloud.ErrServerState, "detach volume", volumeID, "Cannot 'detach_volume' instance while it is in vm_state error")
		case s.Status != "ACTIVE":
			return refuse(cloud.ErrConflict, "detach volume", volumeID, "Cannot 'detach_volume' instance while it is in task_state "+s.Status)
		case v.Status != cloud.VolumeInUse:
			return refuse(cloud.ErrWrongStatus, "detach volume", volumeID, notDetachable)
		}
		v.Status = cloud.VolumeDetaching
		c.detach(s, v)
		return nil
	})
}

// detach lets an accepted detachment happen, or fail.
func (c *Cloud) detach(s *server, v *volume) {
	fault := c.outcome("attachment.delete")
	if fault != nil && fault.Outcome == "stuck" {
		return
	}
	now, takes := time.Now(), c.Latency.of(c.Latency.Detach)
	v.pending = append(v.pending,
		step{now.Add(takes), func() {
			if fault != nil {
				v.Status = cloud.VolumeInUse
				return
			}
			c.release(v, s.ID)
		}},
		step{now.Add(takes + 2*c.Latency.Request), func() {
			if fault == nil {
				c.forget(s.ID, v.ID)
			}
		}})
}

// SetServer changes a server as Nova could.
func (c *Cloud) SetServer(id string, change func(*cloud.Server)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.servers[id].Server)
}

// ListAttachmentRecords implements cloud.AttachmentRecords. A record has the id
// of the attachment that a volume shows; one that is on its way has none yet.
func (c *Cloud) ListAttachmentRecords(ctx context.Context, volumeID string) ([]cloud.AttachmentRecord, error) {
	var all []cloud.AttachmentRecord
	err := c.request(ctx, "cinder-attachment.list", volumeID, func() error {
		if v := c.volumes[volumeID]; v != nil {
			for _, a := range v.Attachments {
				all = append(all, cloud.AttachmentRecord{ID: a.ID, VolumeID: volumeID, ServerID: a.ServerID, Status: "attached"})
			}
		}
		return nil
	})
	return all, err
}

// DeleteAttachmentRecord implements cloud.AttachmentRecords.
func (c *Cloud) DeleteAttachmentRecord(ctx context.Context, id string) error {
	return c.request(ctx, "cinder-attachment.delete", id, func() error {
		for volumeID, v := range c.volumes {
			for _, a := range v.Attachments {
				if a.ID != id {
					continue
				}
				if s := c.servers[a.ServerID]; s != nil && slices.Contains(s.attached, volumeID) {
					return refuse(cloud.ErrConflict, "delete attachment record", id, "ConflictNovaUsingAttachment: Detach volume from instance "+a.ServerID+" using the Compute API")
				}
				c.release(v, a.ServerID)
				return nil
			}
		}
		return refuse(cloud.ErrNotFound, "delete attachment record", id, "")
	})
}
