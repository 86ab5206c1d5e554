package driver

import (
	"context"
	"maps"
	"slices"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// lastLists returns the last complete lists of each project by the name of its cloud in
// metrics. It asks the clouds nothing.
func (c *clouds) lastLists(context.Context) map[string]volumes.Lists {
	c.mu.Lock()
	defer c.mu.Unlock()
	accounts := make([]*account, 0, len(c.configured)+len(c.secrets))
	for _, name := range slices.Sorted(maps.Keys(c.configured)) {
		accounts = append(accounts, c.configured[name])
	}
	accounts = append(accounts, slices.Collect(maps.Values(c.secrets))...)
	lists := make(map[string]volumes.Lists)
	listed := make(map[*project]bool)
	for _, one := range accounts {
		if one.service != nil && !listed[one.project] {
			listed[one.project] = true
			lists[one.project.name] = one.service.LastLists()
		}
	}
	return lists
}
