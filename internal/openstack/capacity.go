package openstack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// How long answers about capacity are kept. Kubernetes asks for every zone and
// StorageClass in turn, each minute: one answer serves one round.
const (
	poolsLife = 20 * time.Second
	quotaLife = 10 * time.Second
)

// Quota is one GET, or none within ten seconds of the last.
func (c *Client) Quota(ctx context.Context) (cloud.Quota, error) {
	answer, err := c.now().quota.get(ctx, c.now().closing, quotaLife, c.readQuota)
	return cloud.Quota{Lines: maps.Clone(answer.Lines)}, err
}

func (c *Client) readQuota(ctx context.Context) (cloud.Quota, error) {
	var answer struct {
		Set map[string]json.RawMessage `json:"quota_set"`
	}
	r := call{
		operation: "get quota of project", resource: c.now().project, metric: "quota_get", endpoint: c.now().cinder,
		path: []string{"os-quota-sets", c.now().project}, query: url.Values{"usage": {"true"}}, answer: &answer,
	}
	if err := c.do(ctx, r); err != nil {
		return cloud.Quota{}, err
	}
	if answer.Set == nil {
		return cloud.Quota{}, r.unexpected("the answer holds no quota")
	}
	quota := cloud.Quota{Lines: make(map[string]cloud.QuotaLine, len(answer.Set))}
	for name, raw := range answer.Set {
		var line struct {
			Limit    *int64 `json:"limit"`
			InUse    int64  `json:"in_use"`
			Reserved int64  `json:"reserved"`
		}
		if json.Unmarshal(raw, &line) == nil && line.Limit != nil {
			quota.Lines[name] = cloud.QuotaLine{Limit: *line.Limit, Used: line.InUse + line.Reserved}
		}
	}
	return quota, nil
}

// ListPools is one GET, and another for the zones of the back ends, or none
// within twenty seconds of the last.
func (c *Client) ListPools(ctx context.Context) ([]cloud.Pool, error) {
	answer, err := c.now().pools.get(ctx, c.now().closing, poolsLife, func(ctx context.Context) (poolsAnswer, error) {
		pools, err := c.listPools(ctx)
		if errors.Is(err, cloud.ErrForbidden) {
			return poolsAnswer{forbidden: err}, nil
		}
		return poolsAnswer{pools: pools}, err
	})
	if err == nil {
		err = answer.forbidden
	}
	return slices.Clone(answer.pools), err
}

// poolsAnswer is what Cinder says about pools: that the account may not know is
// an answer, too.
type poolsAnswer struct {
	pools     []cloud.Pool
	forbidden error
}

// pool is what the scheduler knows about a pool of a back end.
type pool struct {
	Name         string `json:"name"`
	Capabilities struct {
		Backend     string   `json:"volume_backend_name"`
		Total       gigabyte `json:"total_capacity_gb"`
		Free        gigabyte `json:"free_capacity_gb"`
		Provisioned gigabyte `json:"provisioned_capacity_gb"`
		Reserved    gigabyte `json:"reserved_percentage"`
		Ratio       gigabyte `json:"max_over_subscription_ratio"`
		Thin        truth    `json:"thin_provisioning_support"`
	} `json:"capabilities"`
}

func (p pool) key() string { return p.Name }

// backend is a service of Cinder that makes volumes.
type backend struct {
	Host string `json:"host"`
	Zone string `json:"zone"`
}

func (b backend) key() string { return b.Host }

func (c *Client) listPools(ctx context.Context) ([]cloud.Pool, error) {
	r := call{
		operation: "list pools of", resource: "Cinder", metric: "pool_list", endpoint: c.now().cinder,
		path: []string{"scheduler-stats", "get_pools"}, query: url.Values{"detail": {"true"}},
	}
	listed, _, err := list[pool](ctx, c, r, "pools", cloud.Page{})
	if err != nil {
		return nil, err
	}
	zones, err := c.backendZones(ctx)
	if err != nil {
		return nil, err
	}
	pools := make([]cloud.Pool, 0, len(listed))
	for _, p := range listed {
		host, _, _ := strings.Cut(p.Name, "#")
		pools = append(pools, cloud.Pool{Name: p.Name, Backend: p.Capabilities.Backend, Zone: zones[host], FreeGiB: p.free()})
	}
	return pools, nil
}

// free returns how many GiB of volumes the scheduler would still place on the
// pool, -1 where that is not known or has no end.
func (p pool) free() int64 {
	c := p.Capabilities
	if !c.Free.known || !c.Total.known || c.Total.value <= 0 {
		return -1
	}
	free := c.Free.value - c.Total.value*c.Reserved.value/100
	if ratio := c.Ratio.value; bool(c.Thin) && c.Provisioned.known && ratio >= 1 {
		// What is promised already and what is really free both count.
		free = min(c.Total.value*ratio-c.Provisioned.value, free*ratio)
	}
	return max(0, int64(free))
}

// backendZones returns the zones of the back ends by host@backend; it is empty
// where the account may not see services.
func (c *Client) backendZones(ctx context.Context) (map[string]string, error) {
	r := call{
		operation: "list services of", resource: "Cinder", metric: "service_list", endpoint: c.now().cinder,
		path: []string{"os-services"}, query: url.Values{"binary": {"cinder-volume"}},
	}
	listed, _, err := list[backend](ctx, c, r, "services", cloud.Page{})
	if errors.Is(err, cloud.ErrForbidden) || errors.Is(err, cloud.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	zones := make(map[string]string, len(listed))
	for _, s := range listed {
		zones[s.Host] = s.Zone
	}
	return zones, nil
}

// gigabyte is a number that Cinder's drivers write as a number, as a string, or
// as a word: infinite, unknown.
type gigabyte struct {
	value float64
	known bool
}

// UnmarshalJSON never fails.
func (g *gigabyte) UnmarshalJSON(text []byte) error {
	value, err := strconv.ParseFloat(strings.Trim(string(text), `"`), 64)
	*g = gigabyte{}
	if err == nil && cmp.Compare(value, 0) >= 0 && value < 1<<53 {
		*g = gigabyte{value: value, known: true}
	}
	return nil
}
