package openstack

import (
	"context"
	"maps"
	"net/http"
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

// ListVolumeTypes is one GET per 1000 types, or none within a minute of the last.
func (c *Client) ListVolumeTypes(ctx context.Context) ([]cloud.VolumeType, error) {
	kept, err := c.now().types.get(ctx, c.now().session, typesLife, c.listVolumeTypes)
	types := slices.Clone(kept)
	for i := range types {
		types[i].ExtraSpecs = maps.Clone(types[i].ExtraSpecs)
	}
	return types, err
}

func (c *Client) listVolumeTypes(ctx context.Context) ([]cloud.VolumeType, error) {
	r := call{
		operation: "list volume types of", resource: "Cinder", metric: "volume_type_list", endpoint: c.now().cinder,
		method: http.MethodGet, path: []string{"types"},
	}
	var types []cloud.VolumeType
	for page := (cloud.Page{}); ; {
		// Administrators would be shown the public ones alone.
		r.query = filters(page, "is_public", "None")
		listed, next, err := list[volumeType](ctx, c, r, "volume_types", page)
		if err != nil {
			return nil, err
		}
		for _, t := range listed {
			types = append(types, cloud.VolumeType(t))
		}
		if next == "" {
			return types, nil
		}
		page.Marker = next
	}
}

// DefaultVolumeType is one GET, or none within a minute of the last.
func (c *Client) DefaultVolumeType(ctx context.Context) (cloud.VolumeType, error) {
	kept, err := c.now().defaultType.get(ctx, c.now().session, typesLife, c.defaultVolumeType)
	kept.ExtraSpecs = maps.Clone(kept.ExtraSpecs)
	return kept, err
}

func (c *Client) defaultVolumeType(ctx context.Context) (cloud.VolumeType, error) {
	var answer struct {
		Type volumeType `json:"volume_type"`
	}
	err := c.do(ctx, call{
		operation: "get volume type", resource: "default", metric: "volume_type_get", endpoint: c.now().cinder,
		method: http.MethodGet, path: []string{"types", "default"}, answer: &answer, accept: []int{http.StatusOK},
	})
	return cloud.VolumeType(answer.Type), err
}

// RetypeVolume is one POST.
func (c *Client) RetypeVolume(ctx context.Context, id, volumeType string, migrate bool) error {
	policy := "never"
	if migrate {
		policy = "on-demand"
	}
	r := call{
		operation: "retype volume", resource: id, metric: "volume_retype", endpoint: c.now().cinder,
		method: http.MethodPost, path: []string{"volumes", id, "action"},
		body:   map[string]any{"os-retype": map[string]string{"new_type": volumeType, "migration_policy": policy}},
		accept: []int{http.StatusOK, http.StatusAccepted},
	}
	if err := r.known(id); err != nil {
		return err
	}
	return c.do(ctx, r)
}

// SetVolumeMetadata is one POST.
func (c *Client) SetVolumeMetadata(ctx context.Context, id string, metadata map[string]string) error {
	r := call{
		operation: "set metadata of volume", resource: id, metric: "volume_metadata_set", endpoint: c.now().cinder,
		method: http.MethodPost, path: []string{"volumes", id, "metadata"},
		body:   map[string]any{"metadata": metadata},
		accept: []int{http.StatusOK, http.StatusAccepted},
	}
	if err := r.known(id); err != nil {
		return err
	}
	return c.do(ctx, r)
}
