package openstack

import (
	"context"
	"slices"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// zonesLife is how long the names of zones are kept: operators add one in a
// year, and whoever asks for it can wait for some minutes.
const zonesLife = 5 * time.Minute

// ListZones is one GET, or none within five minutes of the last. Zones that are
// out of service are among them.
func (c *Client) ListZones(ctx context.Context) ([]string, error) {
	names, err := c.now().zones.get(ctx, c.now().closing, zonesLife, c.listZones)
	return slices.Clone(names), err
}

type zone struct {
	Name string `json:"zoneName"`
}

func (z zone) key() string { return z.Name }

func (c *Client) listZones(ctx context.Context) ([]string, error) {
	listed, _, err := list[zone](ctx, c, call{
		operation: "list availability zones of", resource: "Cinder", metric: "zone_list", endpoint: c.now().cinder,
		path: []string{"os-availability-zone"},
	}, "availabilityZoneInfo", cloud.Page{})
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(listed))
	for _, zone := range listed {
		names = append(names, zone.Name)
	}
	return names, nil
}
