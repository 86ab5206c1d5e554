package cloudtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

const notDeletable = "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer."

// CreateVolume implements cloud.Volumes.
func (c *Cloud) CreateVolume(ctx context.Context, req cloud.VolumeRequest) (*cloud.Volume, error) {
	var made cloud.Volume
	err := c.request(ctx, "volume.create", req.Name, func() error {
		if err := c.checkVolume(req); err != nil {
			return err
		}
		v := &volume{asked: req, Volume: cloud.Volume{
			ID: uuid.NewString(), Name: strings.TrimSpace(req.Name), SizeGiB: req.SizeGiB,
			Status: cloud.VolumeCreating, Type: c.typeOf(req.Type).Name, Zone: c.zoneFor(req),
			SnapshotID: req.SnapshotID, SourceVolumeID: req.SourceVolumeID,
			Metadata: maps.Clone(req.Metadata), Multiattach: c.typeOf(req.Type).ExtraSpecs["multiattach"] != "", CreatedAt: c.now(),
		}}
		c.volumes[v.ID], c.changed[v.ID] = v, time.Now()
		if slices.Contains(c.FullZones, v.Zone) {
			v.pending = append(v.pending, step{time.Now().Add(c.Latency.of(c.Latency.Create)), func() {
				v.Status, v.fault = cloud.VolumeError, c.fullMessage()
			}})
		} else {
			c.then(v, "volume.create", c.Latency.Create, cloud.VolumeAvailable)
		}
		made = v.Volume
		return nil
	})
	return &made, err
}

// fullMessage is the user message of a zone without room.
func (c *Cloud) fullMessage() cloud.Fault {
	if c.HideMessages {
		return cloud.Fault{}
	}
	return cloud.Fault{Text: "schedule allocate volume:Could not find any available weighted backend.", Creation: true, NoRoom: true}
}

// zoneFor returns the zone in which a volume is made that is wanted in one.
func (c *Cloud) zoneFor(req cloud.VolumeRequest) string {
	if c.hasZone(req) {
		return req.Zone
	}
	return c.ZoneNames[0]
}

// hasZone reports whether volumes as one that is asked for can be in its zone.
func (c *Cloud) hasZone(req cloud.VolumeRequest) bool {
	zones := c.typeOf(req.Type).ExtraSpecs["RESKEY:availability_zones"]
	return slices.Contains(c.ZoneNames, req.Zone) && (zones == "" || slices.Contains(strings.Split(zones, ","), req.Zone))
}

func (c *Cloud) checkVolume(req cloud.VolumeRequest) error {
	const op = "create volume"
	if !c.ZoneFallback && req.Zone != "" && !c.hasZone(req) {
		return refuse(cloud.ErrZone, op, req.Name, fmt.Sprintf("Availability zone '%s' is invalid.", req.Zone))
	}
	if strings.HasPrefix(req.Type, "no-such") {
		return refuse(cloud.ErrNotFound, op, req.Name, "Volume type with name "+req.Type+" could not be found.")
	}
	total := req.SizeGiB
	for _, v := range c.volumes {
		total += v.SizeGiB
	}
	if c.QuotaGiB > 0 && total > c.QuotaGiB {
		return refuse(cloud.ErrQuota, op, req.Name, "VolumeSizeExceedsAvailableQuota")
	}
	return c.checkSource(req)
}

func (c *Cloud) checkSource(req cloud.VolumeRequest) error {
	const op = "create volume"
	size, ready := int64(0), true
	switch {
	case req.SnapshotID != "":
		s := c.snapshots[req.SnapshotID]
		if s == nil {
			return refuse(cloud.ErrNotFound, op, req.Name, "Snapshot "+req.SnapshotID+" could not be found.")
		}
		size, ready = s.SizeGiB, s.Status == cloud.SnapshotAvailable
	case req.SourceVolumeID != "":
		v := c.volumes[req.SourceVolumeID]
		if v == nil {
			return refuse(cloud.ErrNotFound, op, req.Name, "Volume "+req.SourceVolumeID+" could not be found.")
		}
		size = v.SizeGiB
	case req.BackupID != "":
		b := c.backups[req.BackupID]
		if b == nil {
			return refuse(cloud.ErrNotFound, op, req.Name, "Backup "+req.BackupID+" could not be found.")
		}
		size, ready = b.SizeGiB, b.Status == cloud.BackupAvailable
	}
	if !ready {
		return refuse(cloud.ErrInvalid, op, req.Name, "Invalid snapshot: Originating snapshot status must be one of 'available'.")
	}
	if req.SizeGiB < size {
		return refuse(cloud.ErrInvalid, op, req.Name, fmt.Sprintf("Volume size '%d'GB cannot be smaller than the source size %dGB.", req.SizeGiB, size))
	}
	return nil
}

// then lets a volume reach a status after d, unless a fault wants it otherwise.
func (c *Cloud) then(v *volume, op string, d time.Duration, status cloud.VolumeStatus) {
	fault := c.outcome(op)
	if fault != nil && (fault.Outcome == "stuck" || fault.Outcome == "lost") {
		v.lost = fault.Outcome == "lost"
		return
	}
	v.pending = append(v.pending, step{time.Now().Add(c.Latency.of(d)), func() {
		if v.Status == cloud.VolumeCreating {
			v.BackupID = v.asked.BackupID // which isn't told before
		}
		v.Status = status
		if fault != nil {
			v.Status, v.fault = cloud.VolumeStatus(fault.Outcome), told(fault.Cause)
		}
	}})
}

// GetVolume implements cloud.Volumes.
func (c *Cloud) GetVolume(ctx context.Context, id string) (*cloud.Volume, error) {
	var found cloud.Volume
	err := c.request(ctx, "volume.get", id, func() error {
		v := c.volumes[id]
		if v == nil {
			return refuse(cloud.ErrNotFound, "get volume", id, "Volume "+id+" could not be found.")
		}
		found = v.Volume
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &found, nil
}

// ListVolumes implements cloud.Volumes.
func (c *Cloud) ListVolumes(ctx context.Context, filter cloud.VolumeFilter, page cloud.Page) ([]cloud.Volume, string, error) {
	var all []cloud.Volume
	var next string
	err := c.request(ctx, "volume.list", "", func() error {
		for _, v := range c.volumes {
			if filter.Name == "" || filter.Name == v.Name {
				all = append(all, v.Volume)
			}
		}
		slices.SortFunc(all, func(a, b cloud.Volume) int {
			if page.Recent {
				return c.changed[b.ID].Compare(c.changed[a.ID])
			}
			return b.CreatedAt.Compare(a.CreatedAt)
		})
		var err error
		all, next, err = paginate(all, page, func(v cloud.Volume) string { return v.ID })
		return err
	})
	return all, next, err
}

// ExtendVolume implements cloud.Volumes.
func (c *Cloud) ExtendVolume(ctx context.Context, id string, sizeGiB int64, inUse bool) error {
	return c.request(ctx, "volume.extend", id, func() error {
		v := c.volumes[id]
		switch {
		case v == nil:
			return refuse(cloud.ErrNotFound, "extend volume", id, "")
		case v.Status != cloud.VolumeAvailable && (v.Status != cloud.VolumeInUse || !inUse):
			return refuse(cloud.ErrInvalid, "extend volume", id, "status must be available to extend, currently "+string(v.Status))
		case sizeGiB <= v.SizeGiB:
			return refuse(cloud.ErrInvalid, "extend volume", id, "New size for extend must be greater than current size.")
		case c.QuotaGiB > 0 && sizeGiB > c.QuotaGiB:
			return refuse(cloud.ErrQuota, "extend volume", id, "VolumeSizeExceedsAvailableQuota")
		}
		before := v.Status
		v.Status = cloud.VolumeExtending
		fault := c.outcome("volume.extend")
		if fault != nil && fault.Outcome == "stuck" {
			return nil
		}
		v.pending = append(v.pending, step{time.Now().Add(c.Latency.of(c.Latency.Extend)), func() {
			if fault != nil {
				v.Status, v.fault = cloud.VolumeStatus(fault.Outcome), told(fault.Cause)
				return
			}
			v.Status, v.SizeGiB = before, sizeGiB
		}})
		return nil
	})
}

// DeleteVolume implements cloud.Volumes.
func (c *Cloud) DeleteVolume(ctx context.Context, id string) error {
	return c.request(ctx, "volume.delete", id, func() error {
		v := c.volumes[id]
		if v == nil {
			return refuse(cloud.ErrNotFound, "delete volume", id, "")
		}
		if v.lost {
			v.gone = true
			return nil
		}
		if v.Status == cloud.VolumeCreating && time.Since(v.CreatedAt) < c.Latency.Create/2 {
			v.gone = true
			c.orphans++
			return nil
		}
		deletable := v.Status == cloud.VolumeAvailable || v.Status == cloud.VolumeError || v.Status == cloud.VolumeErrorExtending
		for _, s := range c.snapshots {
			deletable = deletable && s.VolumeID != id
		}
		if !deletable {
			return refuse(cloud.ErrInvalid, "delete volume", id, notDeletable)
		}
		v.Status = cloud.VolumeDeleting
		fault := c.outcome("volume.delete")
		if fault != nil && fault.Outcome == "stuck" {
			return nil
		}
		v.pending = append(v.pending, step{time.Now().Add(c.Latency.of(c.Latency.Delete)), func() {
			if fault != nil {
				v.Status, v.fault = cloud.VolumeStatus(fault.Outcome), told(fault.Cause)
				return
			}
			v.gone = true
		}})
		return nil
	})
}

// VolumeFault implements cloud.Volumes.
func (c *Cloud) VolumeFault(ctx context.Context, id string) (cloud.Fault, error) {
	var cause cloud.Fault
	err := c.request(ctx, "message.list", id, func() error {
		if v := c.volumes[id]; v != nil {
			cause = v.fault
		}
		return nil
	})
	return cause, err
}

// paginate cuts a page out of a list.
func paginate[T any](all []T, page cloud.Page, id func(T) string) ([]T, string, error) {
	if page.Marker != "" {
		i := slices.IndexFunc(all, func(one T) bool { return id(one) == page.Marker })
		if i < 0 {
			return nil, "", refuse(cloud.ErrNotFound, "list", page.Marker, "marker could not be found")
		}
		all = all[i+1:]
	}
	limit := page.Limit
	if limit == 0 {
		limit = 1000
	}
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], id(all[limit-1]), nil
}

// ListZones returns the names of the zones.
func (c *Cloud) ListZones(ctx context.Context) ([]string, error) {
	err := c.request(ctx, "zone.list", "", func() error { return nil })
	return c.ZoneNames, err
}

// told is what a user message tells.
func told(text string) cloud.Fault {
	scheduling := strings.HasPrefix(text, "schedule allocate volume")
	return cloud.Fault{Text: text, Creation: scheduling || strings.HasPrefix(text, "create "), NoRoom: scheduling}
}
