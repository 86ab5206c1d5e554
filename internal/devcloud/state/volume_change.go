package state

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// ExtendVolume accepts the growth of a volume to so many GiB. inUse tells that
// the request's microversion allows an attached volume.
func (c *Cloud) ExtendVolume(call Call, id string, size int64, inUse bool) error {
	return c.update(func() error {
		v, err := c.visibleVolume(call, id)
		if err != nil {
			return err
		}
		if v.Status != "available" && (v.Status != "in-use" || !inUse) {
			return rest.BadRequest("Invalid volume: Volume %s status must be '{'status': 'available'}' to extend, currently %s.", id, v.Status)
		}
		if size <= v.Size {
			return rest.BadRequest("Invalid input received: New size for extend must be greater than current size. (current: %d, extended: %d).", v.Size, size)
		}
		if err := c.checkExtendQuota(v, size); err != nil {
			return err
		}
		v.Status, v.ExtendTo, v.UpdatedAt = "extending", size, now()
		c.volumes.Put(id, v)
		c.start(Task{Kind: taskExtendVolume, Call: call, VolumeID: id, Size: size})
		return nil
	})
}

// extendVolume is the task that grows a volume. The guest learns of it later.
func (c *Cloud) extendVolume(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "volume.extending"); err != nil {
		return err
	}
	v, ok := c.rawVolume(t.VolumeID)
	end := t.endIn()
	online := ok && len(v.Attached()) > 0
	if end == "" && online && c.Behaviour().OnlineExtendFails {
		end = "error_extending"
	}
	if end == "" {
		if err := c.plane.ExtendVolume(t.VolumeID, t.Size*GiB); err != nil {
			c.logFailure(t, err)
			end = "error_extending"
		}
	}
	return c.settle(t, func() {
		v, ok := c.volumes.Get(t.VolumeID)
		if !ok {
			return
		}
		v.ExtendTo, v.UpdatedAt = 0, now()
		if end != "" {
			c.note(t.Call, v.ProjectID, "VOLUME_VOLUME_007_010", "extend volume:Volume Driver failed to extend volume.", "VOLUME", v.ID)
			v.Status = end
			c.volumes.Put(v.ID, v)
			return
		}
		v.Size, v.Status = t.Size, v.settled()
		c.volumes.Put(v.ID, v)
		if online {
			c.start(Task{Kind: taskGrowGuest, Call: Call{RequestID: t.Call.RequestID, UserID: t.Call.UserID, ProjectID: t.Call.ProjectID}, VolumeID: v.ID})
		}
	})
}

// growGuest is the task that lets the servers see the new size.
func (c *Cloud) growGuest(ctx context.Context, t Task) error {
	if err := c.pause(ctx, latency.GuestGrowth); err != nil {
		return err
	}
	failure := c.plane.GrowAttached(t.VolumeID)
	return c.settle(t, func() {
		if failure != nil {
			c.logFailure(t, failure)
		}
		if v, ok := c.volumes.Get(t.VolumeID); ok {
			for _, a := range v.Attached() {
				c.act(t.Call, a.ServerID, "extend_volume", true, failure != nil)
			}
		}
	})
}

// RetypeVolume accepts a change of type. The volume keeps its old type in the
// end where the new one lives on another backend and policy is "never".
func (c *Cloud) RetypeVolume(call Call, id, typeName, policy string) error {
	return c.update(func() error {
		v, err := c.visibleVolume(call, id)
		if err != nil {
			return err
		}
		kind, err := c.findType(typeName)
		if err != nil {
			return err
		}
		if v.Status != "available" && kind.Multiattach() != v.Multiattach {
			return rest.BadRequest("Invalid input received: Invalid volume_type passed, retypes affecting multiattach are only allowed on available volumes, the specified volume however currently has a status of: %s.", v.Status)
		}
		if !oneOf(v.Status, "available", "in-use") {
			return rest.BadRequest("Invalid volume: Retype requires volume to be in available or in-use state, but it is %s.", v.Status)
		}
		if v.TypeID == kind.ID {
			return rest.BadRequest("Invalid volume: Retype needs volume to be in available or in-use state, not be part of an active migration or a consistency group, requested type has to be different that the one from the volume, and for in-use volumes front-end qos specs cannot change.")
		}
		old, _ := c.types.Get(v.TypeID)
		t := Task{Kind: taskRetypeVolume, Call: call, VolumeID: id, TypeID: kind.ID}
		zones, limited := kind.Zones()
		moves := old.Backend != kind.Backend || limited && !slices.Contains(zones, v.Zone)
		if moves && (policy != "on-demand" || len(c.snapshotsOf(id)) > 0) {
			t.TypeID = v.TypeID // its snapshots keep a volume where it is
		}
		if err := c.checkTypeQuota(v, kind); err != nil {
			return err
		}
		v.Previous, v.Status, v.UpdatedAt = v.Status, "retyping", now()
		c.volumes.Put(id, v)
		c.start(t)
		return nil
	})
}

// retypeVolume is the task that changes a volume's type.
func (c *Cloud) retypeVolume(ctx context.Context, t Task) error {
	if err := c.wait(ctx, t, "volume.retyping"); err != nil {
		return err
	}
	return c.settle(t, func() {
		v, ok := c.volumes.Get(t.VolumeID)
		if !ok {
			return
		}
		v.Status, v.UpdatedAt = v.Previous, now()
		if end := t.endIn(); end != "" {
			v.Status = end
		} else if kind, ok := c.types.Get(t.TypeID); ok {
			v.TypeID, v.Multiattach = kind.ID, kind.Multiattach()
			if zones, limited := kind.Zones(); limited && !slices.Contains(zones, v.Zone) {
				v.Zone = zones[0] // where it has moved to
			}
			v.Host = poolOf(v.Zone, kind.Backend)
		}
		c.volumes.Put(v.ID, v)
	})
}

// ChangeVolume changes name, description or metadata through fn.
func (c *Cloud) ChangeVolume(call Call, id string, fn func(v *Volume)) (Volume, error) {
	var v Volume
	err := c.update(func() error {
		var err error
		if v, err = c.visibleVolume(call, id); err != nil {
			return err
		}
		v.Metadata = maps.Clone(v.Metadata)
		fn(&v)
		v.UpdatedAt = now()
		c.volumes.Put(id, v)
		return nil
	})
	return v, err
}

// SetVolumeMetadata changes the metadata of a volume, which in maintenance
// keeps what it has. verb is Cinder's word for the change.
func (c *Cloud) SetVolumeMetadata(call Call, id, verb string, change func(map[string]string) map[string]string) (map[string]string, error) {
	refused := false
	v, err := c.ChangeVolume(call, id, func(v *Volume) {
		if refused = v.Status == "maintenance"; refused {
			return
		}
		if v.Metadata == nil {
			v.Metadata = map[string]string{}
		}
		v.Metadata = change(v.Metadata)
	})
	if refused {
		return nil, rest.BadRequest("Invalid volume: %s volume metadata is not allowed for volumes in maintenance status.", verb)
	}
	return v.Metadata, err
}

// ResetVolume sets a volume's status, for an administrator. detached forgets
// Cinder's attachments, too.
func (c *Cloud) ResetVolume(call Call, id, status string, detached bool) error {
	_, err := c.ChangeVolume(call, id, func(v *Volume) {
		v.Status = status
		if detached {
			v.Attachments = nil
		}
	})
	return err
}

// ForceDeleteVolume removes a volume whatever its status, for an administrator.
func (c *Cloud) ForceDeleteVolume(call Call, id string) error {
	return c.update(func() error {
		v, err := c.visibleVolume(call, id)
		if err != nil {
			return err
		}
		if len(v.Attached()) > 0 || len(c.snapshotsOf(id)) > 0 {
			return rest.BadRequest("%s", undeletable)
		}
		v.Status, v.UpdatedAt = "deleting", now()
		c.volumes.Put(id, v)
		c.start(Task{Kind: taskDeleteVolume, Call: call, VolumeID: id})
		return nil
	})
}

// settle ends a task together with what fn changes.
func (c *Cloud) settle(t Task, fn func()) error {
	return c.update(func() error {
		if fn != nil {
			fn()
		}
		c.finish(t)
		return nil
	})
}

// setStatus changes the status of a volume that is still there. Only in an update.
func (c *Cloud) setStatus(id, status string) {
	if v, ok := c.volumes.Get(id); ok {
		v.Status, v.UpdatedAt = status, now()
		c.volumes.Put(id, v)
	}
}

func (c *Cloud) logFailure(t Task, err error) {
	c.log.Warn("the data plane failed", zap.String("task", t.Kind), zap.String("volume", t.VolumeID),
		zap.String("snapshot", t.SnapshotID), zap.String("backup", t.BackupID), zap.String("server", t.ServerID), zap.Error(err))
}

// newestFirst sorts by the order of creation, latest first.
func newestFirst[T any](list []T, seq func(*T) uint64) {
	// Records are large: each is moved once, however long the list is.
	type place struct {
		seq uint64
		at  int
	}
	places := make([]place, len(list))
	for i := range list {
		places[i] = place{seq(&list[i]), i}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(b.seq, a.seq) })
	unsorted := slices.Clone(list)
	for i, p := range places {
		list[i] = unsorted[p.at]
	}
}
