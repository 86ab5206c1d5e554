package state

import (
	"context"
	"errors"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// Detach accepts a detachment.
func (c *Cloud) Detach(call Call, serverID, volumeID string) error {
	return c.update(func() error {
		s, err := c.visibleServer(call, serverID)
		if err != nil {
			return err
		}
		v, err := c.visibleVolume(call, volumeID)
		if err != nil {
			return err
		}
		d, ok := s.Disk(volumeID)
		if !ok {
			return rest.NotFound("Instance %s is not attached to volume %s", serverID, volumeID)
		}
		if err := s.takesDisks(call, "detach_volume"); err != nil {
			return err
		}
		if c.ComputeDown(&s) {
			return rest.Conflict("Service is unavailable at this time.")
		}
		if s.Status == offloaded {
			c.detachOffloaded(call, s, d)
			return nil
		}
		a, ok := v.attachment(d.AttachmentID)
		if v.Status != "in-use" || !ok || a.Status != attached {
			return rest.BadRequest("Invalid volume: Invalid input received: Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach. (HTTP 400) (Request-ID: %s)", rest.NewID())
		}
		a.Status = detaching
		v.setAttachment(a)
		v.Status, v.UpdatedAt = detaching, now()
		c.volumes.Put(v.ID, v)
		c.act(call, s.ID, "detach_volume", false, false)
		c.start(Task{Kind: taskDetach, Call: call, VolumeID: v.ID, ServerID: s.ID, AttachmentID: a.ID})
		return nil
	})
}

// detach is the task that takes a volume from a server.
func (c *Cloud) detach(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "attachment.detaching"); err != nil {
		return err
	}
	if err := c.awake(ctx, t.ServerID); err != nil {
		return err
	}
	if t.async() != "" || t.endIn() != "" {
		return c.settle(t, func() { c.keepAttached(t) })
	}
	if s, ok := c.rawServer(t.ServerID); ok {
		patience := c.Latency().Step(latency.BusyDetach)
		if c.Behaviour().HangBusyDetach {
			patience = 0
		}
		err := c.disconnect(ctx, s.Key, t.VolumeID, patience)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.logFailure(t, err)
			return c.settle(t, func() { c.keepAttached(t) })
		}
	}
	if err := c.update(func() error { c.releaseVolume(t.VolumeID, t.AttachmentID); return nil }); err != nil {
		return err
	}
	if err := c.pause(ctx, "attachment.forgotten"); err != nil {
		return err
	}
	return c.settle(t, func() {
		if s, ok := c.servers.Get(t.ServerID); ok {
			s.dropDisk(t.AttachmentID)
			s.UpdatedAt = now()
			c.servers.Put(s.ID, s)
			c.act(t.Call, s.ID, "detach_volume", true, false)
		}
	})
}

// disconnect takes the device from a server, trying again while it is open.
// It gives up after patience; zero is endless.
func (c *Cloud) disconnect(ctx context.Context, key, volumeID string, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		err := c.plane.Detach(key, volumeID)
		if err == nil || !errors.Is(err, ErrDeviceBusy) || patience > 0 && time.Now().After(deadline) {
			return err
		}
		if err := latency.Sleep(ctx, retryEvery); err != nil {
			return err
		}
	}
}

// releaseVolume ends an attachment on Cinder's side. Only in an update.
func (c *Cloud) releaseVolume(volumeID, attachmentID string) {
	v, ok := c.volumes.Get(volumeID)
	if !ok {
		return
	}
	if _, ok := v.attachment(attachmentID); !ok {
		return
	}
	v.dropAttachment(attachmentID)
	v.Status, v.UpdatedAt = v.settled(), now()
	c.volumes.Put(v.ID, v)
}

// keepAttached ends a detachment that was given up. Only in an update.
func (c *Cloud) keepAttached(t Task) {
	if v, ok := c.volumes.Get(t.VolumeID); ok {
		if a, ok := v.attachment(t.AttachmentID); ok {
			a.Status = attached
			v.setAttachment(a)
		}
		v.Status, v.UpdatedAt = v.settled(), now()
		if end := t.endIn(); end != "" {
			v.Status = end
		}
		c.volumes.Put(v.ID, v)
	}
	c.act(t.Call, t.ServerID, "detach_volume", true, true)
}

// ForgetAttachment removes an attachment of Cinder's that Nova knows nothing of.
func (c *Cloud) ForgetAttachment(call Call, volumeID, attachmentID string) error {
	return c.update(func() error {
		if _, err := c.visibleVolume(call, volumeID); err != nil {
			return err
		}
		c.releaseVolume(volumeID, attachmentID)
		return nil
	})
}
