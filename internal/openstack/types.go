package openstack

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// typesLife is how long volume types are kept: an operator who adds one waits
// that long until the driver knows it.
const typesLife = time.Minute

// volumeType is Cinder's view of a type. Clouds before Xena leave the extra specs
// out for accounts that may not read them.
type volumeType struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	ExtraSpecs map[string]string `json:"extra_specs"`
}

func (t volumeType) key() string { return t.ID }

// ListVolumeTypes is one GET per 1000 types, or none within a minute of the last.
func (c *Client) ListVolumeTypes(ctx context.Context) ([]cloud.VolumeType, error) {
	answer, err := c.now().types.get(ctx, c.now().closing, typesLife, c.listVolumeTypes)
	types := slices.Clone(answer)
	for i := range types {
		types[i].ExtraSpecs = maps.Clone(types[i].ExtraSpecs)
	}
	return types, err
}

func (c *Client) listVolumeTypes(ctx context.Context) ([]cloud.VolumeType, error) {
	// Without is_public administrators would be shown the public ones alone.
	listed, err := all[volumeType](ctx, c, call{
		operation: "list volume types of", resource: "Cinder", metric: "volume_type_list", endpoint: c.now().cinder, path: []string{"types"},
	}, "volume_types", "is_public", "None")
	var types []cloud.VolumeType
	for _, t := range listed {
		types = append(types, cloud.VolumeType(t))
	}
	return types, err
}

// DefaultVolumeType is one GET, or none within a minute of the last.
func (c *Client) DefaultVolumeType(ctx context.Context) (cloud.VolumeType, error) {
	answer, err := c.now().defaultType.get(ctx, c.now().closing, typesLife, c.defaultVolumeType)
	answer.ExtraSpecs = maps.Clone(answer.ExtraSpecs)
	return answer, err
}

func (c *Client) defaultVolumeType(ctx context.Context) (cloud.VolumeType, error) {
	var answer struct {
		Type volumeType `json:"volume_type"`
	}
	err := c.do(ctx, call{
		operation: "get volume type", resource: "default", metric: "volume_type_get", endpoint: c.now().cinder,
		path: []string{"types", "default"}, answer: &answer,
	})
	return cloud.VolumeType(answer.Type), err
}

// RetypeVolume is one POST.
func (c *Client) RetypeVolume(ctx context.Context, id, volumeType string, migrate bool) error {
	policy := "never"
	if migrate {
		policy = "on-demand"
	}
	return c.do(ctx, c.action("retype volume", "volume_retype", id, map[string]any{
		"os-retype": map[string]string{"new_type": volumeType, "migration_policy": policy},
	}))
}

// SetVolumeMetadata is one POST.
func (c *Client) SetVolumeMetadata(ctx context.Context, id string, metadata map[string]string) error {
	r := c.action("set metadata of volume", "volume_metadata_set", id, map[string]any{"metadata": metadata})
	r.path[2] = "metadata"
	return c.do(ctx, r)
}
