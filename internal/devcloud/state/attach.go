package state

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/fault"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// AttachSpec asks for a volume to be attached to a server.
type AttachSpec struct {
	ServerID, VolumeID  string
	Device              string // as asked for, empty for the next free name
	Tag                 *string
	DeleteOnTermination bool
	// Offloaded tells that the request's microversion knows of servers that are
	// shelved.
	Offloaded bool
	// Multiattach tells that the request's microversion knows of volumes that
	// may be attached more than once.
	Multiattach bool
}

// CheckAttach is what Nova looks at before it waits for its turn at the server.
func (c *Cloud) CheckAttach(call Call, spec AttachSpec) (err error) {
	c.view(func() { _, _, err = c.attachable(call, spec) })
	return err
}

// attachable checks everything but the volume's status. Only under the lock.
func (c *Cloud) attachable(call Call, spec AttachSpec) (Server, Volume, error) {
	s, err := c.visibleServer(call, spec.ServerID)
	if err != nil {
		return s, Volume{}, err
	}
	if s.Status == offloaded && !spec.Offloaded {
		return s, Volume{}, rest.Conflict("Cannot 'attach_volume' instance %s while it is in vm_state shelved_offloaded", s.ID)
	}
	if err := s.takesDisks(call, "attach_volume"); err != nil {
		return s, Volume{}, err
	}
	v, err := c.visibleVolume(call, spec.VolumeID)
	if err != nil {
		return s, v, err
	}
	if err := c.checkNotAttached(s, v); err != nil {
		return s, v, err
	}
	b := c.Behaviour()
	if b.MaxDisks > 0 && len(s.Disks)+1 >= b.MaxDisks {
		return s, v, rest.Forbidden("The maximum allowed number of disk devices (%d) to attach to a single instance has been exceeded.", b.MaxDisks)
	}
	if b.SeparateZones && s.Zone != v.Zone {
		return s, v, rest.BadRequest("Invalid volume: Instance %s and volume %s are not in the same availability_zone. Instance is in %s. Volume is in %s", s.ID, v.ID, s.Zone, v.Zone)
	}
	if v.Multiattach && !spec.Multiattach {
		return s, v, rest.BadRequest("Multiattach volumes are only supported starting with compute API version 2.60.")
	}
	return s, v, nil
}

// checkNotAttached compares with what Nova knows, which is not always what
// Cinder knows.
func (c *Cloud) checkNotAttached(s Server, v Volume) error {
	if _, here := s.Disk(v.ID); here && v.Multiattach {
		return rest.BadRequest("Invalid volume: volume %s already attached", v.ID)
	}
	if v.Multiattach {
		return nil
	}
	holder := ""
	c.servers.Each(func(o *Server) bool {
		if _, ok := o.Disk(v.ID); ok {
			holder = o.ID
		}
		return holder == ""
	})
	if attached := v.Attached(); holder == "" && len(attached) > 0 {
		holder = attached[0].ServerID
	}
	if holder != "" {
		return errors.Join(rest.BadRequest("Invalid volume: volume %s is already attached to instances: %s", v.ID, holder), errTaken)
	}
	return nil
}

// errTaken marks the refusal of a volume that Nova knows on a server.
var errTaken = errors.New("taken")

// Attach accepts an attachment: the volume is reserved and Nova lists it.
func (c *Cloud) Attach(call Call, spec AttachSpec) (Disk, error) {
	var disk Disk
	err := c.update(func() error {
		s, v, err := c.attachable(call, spec)
		if errors.Is(err, errTaken) && v.Status == reserved {
			err = nil // two requests passed CheckAttach at once; Cinder decides
		}
		if err != nil {
			return err
		}
		if err := reservable(v); err != nil && !reservedFor(v, s) {
			return err
		}
		disk = Disk{
			VolumeID: v.ID, AttachmentID: newID(), MappingID: newID(), Device: spec.Device, Tag: spec.Tag,
			DeleteOnTermination: spec.DeleteOnTermination,
		}
		if s.Status == offloaded {
			disk.Device = ""
			return c.attachOffloaded(call, s, v, disk)
		}
		if disk.Device == "" {
			disk.Device = nextDevice(s)
		}
		s.Disks = append(s.Disks[:len(s.Disks):len(s.Disks)], disk)
		s.UpdatedAt = now()
		c.servers.Put(s.ID, s)
		v.setAttachment(Attachment{ID: disk.AttachmentID, ServerID: s.ID, Status: reserved})
		v.Status, v.UpdatedAt = reserved, now()
		c.volumes.Put(v.ID, v)
		c.act(call, s.ID, "attach_volume", false, false)
		c.start(Task{Kind: taskAttach, Call: call, VolumeID: v.ID, ServerID: s.ID, AttachmentID: disk.AttachmentID})
		return nil
	})
	return disk, err
}

// reservedFor reports whether Cinder has reserved a volume for a server that
// does not have it: that one may.
func reservedFor(v Volume, s Server) bool {
	_, here := s.Disk(v.ID)
	return v.Status == reserved && !here && slices.ContainsFunc(v.Attachments, func(a Attachment) bool { return a.ServerID == s.ID && a.Status == reserved })
}

// Reserve is Cinder's own part of an attachment: the volume is reserved for a
// server, of which Nova need not know.
func (c *Cloud) Reserve(call Call, volumeID, serverID string) (Volume, Attachment, error) {
	var v Volume
	a := Attachment{ID: newID(), ServerID: serverID, Status: reserved}
	err := c.update(func() error {
		var err error
		if v, err = c.visibleVolume(call, volumeID); err != nil {
			return err
		}
		if err := reservable(v); err != nil {
			return err
		}
		v.setAttachment(a)
		v.Status, v.UpdatedAt = reserved, now()
		c.volumes.Put(v.ID, v)
		return nil
	})
	return v, a, err
}

// reservable is Cinder's word on whether a volume can be attached, as Nova
// passes it on.
func reservable(v Volume) error {
	allowed, list := []string{"available", "downloading"}, "available or downloading"
	if v.Multiattach {
		allowed, list = append(allowed, "in-use"), "available or in-use or downloading"
	}
	if strings.HasPrefix(v.Status, "error") {
		return rest.BadRequest("Invalid input received: Invalid volume: Volume attachments can not be created if the volume is in an error state. The Volume %s currently has a status of: %s  (HTTP 400) (Request-ID: %s)", v.ID, v.Status, rest.NewID())
	}
	if !oneOf(v.Status, allowed...) {
		return rest.BadRequest("Invalid input received: Invalid volume: Volume %s status must be %s to reserve, but the current status is %s. (HTTP 400) (Request-ID: %s)", v.ID, list, v.Status, rest.NewID())
	}
	return nil
}

// attach is the task that brings a volume to a server.
func (c *Cloud) attach(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "attachment.reserved"); err != nil {
		return err
	}
	if err := c.awake(ctx, t.ServerID); err != nil {
		return err
	}
	if t.async() != "" || t.endIn() != "" || c.noSlot(t) {
		return c.settle(t, func() { c.failAttach(t) })
	}
	err := c.update(func() error {
		if v, ok := c.volumes.Get(t.VolumeID); ok {
			if a, ok := v.attachment(t.AttachmentID); ok && a.Status == reserved {
				a.Status = attaching
				v.setAttachment(a)
				v.Status, v.UpdatedAt = attaching, now()
				c.volumes.Put(v.ID, v)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.pause(ctx, "attachment.attaching"); err != nil {
		return err
	}
	return c.connect(ctx, t)
}

// noSlot reports whether a server's guest has no place for one more disk, of which
// Nova's API knows nothing.
func (c *Cloud) noSlot(t Task) bool {
	s, _ := c.rawServer(t.ServerID)
	at := slices.IndexFunc(s.Disks, func(d Disk) bool { return d.AttachmentID == t.AttachmentID })
	slots := c.Behaviour().Slots
	return slots > 0 && at >= slots
}

// connect makes the device and ends the attachment.
func (c *Cloud) connect(ctx context.Context, t Task) error {
	s, ok := c.rawServer(t.ServerID)
	if !ok {
		return c.settle(t, func() { c.failAttach(t) })
	}
	failure := c.plane.Attach(s.Key, t.VolumeID)
	lost := false
	err := c.update(func() error {
		s, ok := c.servers.Get(t.ServerID)
		v, found := c.volumes.Get(t.VolumeID)
		a, known := v.attachment(t.AttachmentID)
		d, listed := s.Disk(t.VolumeID)
		if failure != nil || !ok || !found || !known || !listed {
			if failure != nil {
				c.logFailure(t, failure)
			}
			lost = failure == nil
			c.failAttach(t)
			c.finish(t)
			return nil
		}
		a.Status, a.Device, a.AttachedAt = attached, d.Device, now()
		v.setAttachment(a)
		v.Status, v.UpdatedAt = "in-use", now()
		c.volumes.Put(v.ID, v)
		c.act(t.Call, s.ID, "attach_volume", true, false)
		c.finish(t)
		return nil
	})
	if err == nil && lost {
		// The server, or the attachment, went while the device was made.
		return c.disconnect(ctx, s.Key, t.VolumeID, 0)
	}
	return err
}

// failAttach undoes an attachment that did not come about. Only in an update.
func (c *Cloud) failAttach(t Task) {
	end := t.endIn()
	if v, ok := c.volumes.Get(t.VolumeID); ok {
		if !oneOf(end, reserved, attaching) {
			v.dropAttachment(t.AttachmentID)
		}
		v.Status, v.UpdatedAt = v.settled(), now()
		if end != "" {
			v.Status = end
		}
		c.volumes.Put(v.ID, v)
	}
	if s, ok := c.servers.Get(t.ServerID); ok && t.async() != fault.Ghost {
		s.dropDisk(t.AttachmentID)
		c.servers.Put(s.ID, s)
	}
	c.act(t.Call, t.ServerID, "attach_volume", true, true)
}

// nextDevice proposes the first free device name, as libvirt's driver does.
func nextDevice(s Server) string {
	taken := map[string]bool{}
	for _, d := range s.Disks {
		taken[d.Device] = true
	}
	for i := 1; ; i++ {
		name := "/dev/vd" + letters(i)
		if !taken[name] {
			return name
		}
	}
}

// letters counts a, b, … z, aa, ab … from zero.
func letters(i int) string {
	s := string(rune('a' + i%26))
	if i >= 26 {
		return letters(i/26-1) + s
	}
	return s
}
