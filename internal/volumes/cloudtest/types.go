package cloudtest

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// ListVolumeTypes implements cloud.Types.
func (c *Cloud) ListVolumeTypes(ctx context.Context) ([]cloud.VolumeType, error) {
	var types []cloud.VolumeType
	err := c.request(ctx, "type.list", "", func() error {
		for _, t := range c.Types {
			types = append(types, c.shown(t))
		}
		return nil
	})
	return types, err
}

// DefaultVolumeType implements cloud.Types.
func (c *Cloud) DefaultVolumeType(ctx context.Context) (cloud.VolumeType, error) {
	var standard cloud.VolumeType
	err := c.request(ctx, "type.get", "", func() error {
		standard = c.shown(c.Types[0])
		return nil
	})
	return standard, err
}

func (c *Cloud) shown(t cloud.VolumeType) cloud.VolumeType {
	if t.ExtraSpecs = maps.Clone(t.ExtraSpecs); c.HideSpecs {
		t.ExtraSpecs = nil
	}
	return t
}

// typeOf finds a type as Cinder with MySQL does, which doesn't tell capitals.
func (c *Cloud) typeOf(nameOrID string) cloud.VolumeType {
	for i, t := range c.Types {
		if nameOrID == "" && i == 0 || strings.EqualFold(t.ID, nameOrID) || strings.EqualFold(t.Name, nameOrID) {
			return t
		}
	}
	return cloud.VolumeType{Name: nameOrID}
}

// RetypeVolume implements cloud.Volumes.
func (c *Cloud) RetypeVolume(ctx context.Context, id, volumeType string, _ bool) error {
	return c.request(ctx, "volume.retype", id, func() error {
		v := c.volumes[id]
		switch {
		case v == nil:
			return refuse(cloud.ErrNotFound, "retype volume", id, "")
		case v.Status != cloud.VolumeAvailable && v.Status != cloud.VolumeInUse:
			return refuse(cloud.ErrConflict, "retype volume", id, "Retype requires volume to be in available or in-use state")
		case v.Type == c.typeOf(volumeType).Name:
			return refuse(cloud.ErrInvalid, "retype volume", id, "New volume_type same as original")
		}
		before, fault := v.Status, c.outcome("volume.retype")
		v.Status = cloud.VolumeRetyping
		v.pending = append(v.pending, step{time.Now().Add(c.Latency.of(c.Latency.Extend)), func() {
			if v.Status = before; fault == nil {
				v.Type = c.typeOf(volumeType).Name
			}
		}})
		return nil
	})
}

// SetVolumeMetadata implements cloud.Volumes.
func (c *Cloud) SetVolumeMetadata(ctx context.Context, id string, metadata map[string]string) error {
	return c.request(ctx, "volume.metadata.update", id, func() error {
		v := c.volumes[id]
		if v == nil {
			return refuse(cloud.ErrNotFound, "set metadata of volume", id, "")
		}
		all := maps.Clone(v.Metadata)
		if all == nil {
			all = make(map[string]string)
		}
		maps.Copy(all, metadata)
		v.Metadata = all
		return nil
	})
}

// ListPools implements cloud.Capacity: as for any ordinary account.
func (c *Cloud) ListPools(ctx context.Context) ([]cloud.Pool, error) {
	return nil, c.request(ctx, "pool.list", "", func() error {
		return refuse(cloud.ErrForbidden, "list pools", "", "Policy doesn't allow scheduler_extension:scheduler_stats:get_pools to be performed.")
	})
}

// Quota implements cloud.Capacity.
func (c *Cloud) Quota(ctx context.Context) (cloud.Quota, error) {
	quota := cloud.Quota{Lines: make(map[string]cloud.QuotaLine)}
	err := c.request(ctx, "quota.get", "", func() error {
		line := cloud.QuotaLine{Limit: -1}
		if c.QuotaGiB > 0 {
			line.Limit = c.QuotaGiB
		}
		for _, v := range c.volumes {
			line.Used += v.SizeGiB
		}
		quota.Lines["gigabytes"] = line
		return nil
	})
	return quota, err
}
