package driver

import (
	"context"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// lastLists returns the last complete lists of each project by the name of its cloud in
// metrics, whichever of its accounts has read them. It asks the clouds nothing.
func (c *clouds) lastLists(context.Context) map[string]volumes.Lists {
	c.mu.Lock()
	defer c.mu.Unlock()
	lists := make(map[string]volumes.Lists)
	for _, one := range c.accounts() {
		if one.service == nil {
			continue
		}
		known, own := lists[one.project.name], one.service.LastLists()
		lists[one.project.name] = volumes.Lists{
			Volumes: newest(known.Volumes, own.Volumes), Snapshots: newest(known.Snapshots, own.Snapshots), Backups: newest(known.Backups, own.Backups),
		}
	}
	return lists
}

func newest(a, b volumes.Listing) volumes.Listing {
	if b.At.After(a.At) {
		return b
	}
	return a
}
