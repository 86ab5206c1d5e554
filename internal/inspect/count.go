package inspect

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// CountedAge is the least age of an orphan that is counted.
const CountedAge = 24 * time.Hour

// Counter counts orphans by lists of the clouds that are read for another reason. It asks
// the clouds nothing, and Kubernetes once for each count.
//
// What was deleted after its list was read has lost its object meanwhile, and looks like an
// orphan: only what two lists have is counted. The second count follows soon where the first
// finds something new.
type Counter struct {
	Kubernetes *kube.Client
	// Lists returns the last complete lists of each cloud by its name.
	Lists func(context.Context) map[string]volumes.Lists
	// Every is the pause between two counts; a tenth of it where something new was found.
	Every  time.Duration
	Logger *zap.Logger
	metric *prometheus.GaugeVec
	// before are the lists and the orphans of each cloud at the last count, which was at
	// last. fresh tells that it has found something new.
	before map[string]counted
	last   time.Time
	fresh  bool
}

// counted is what came of a count.
type counted struct {
	lists   volumes.Lists
	orphans map[key]bool
}

// key names an orphan of a cloud.
type key struct{ kind, id, server string }

// Register registers the metric. It comes before Run.
func (c *Counter) Register(registry prometheus.Registerer) error {
	c.metric = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "cinder_csi_orphans",
		Help: "Things in the cloud that bear this cluster's name, are older than a day, and have no object in Kubernetes, by kind: volume, snapshot, backup, attachment, twin (a volume beside another one of its name). They are counted in lists that are read for another reason, and counted once two lists have them.",
	}, []string{"cloud", "kind"})
	return registry.Register(c.metric)
}

// Run counts until ctx ends.
func (c *Counter) Run(ctx context.Context) {
	c.before = make(map[string]counted)
	ticker := time.NewTicker(max(c.Every/10, 1))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := c.count(ctx, time.Now()); err != nil && ctx.Err() == nil {
				c.Logger.Warn("orphans are not counted: Kubernetes doesn't tell what it knows", zap.Error(err))
			}
		}
	}
}

// outdated is the age of a list whose numbers are told no more: those of a replica of which
// nobody asks for lists any more, since another one leads, would stay for ever. The attacher
// asks for all volumes each minute; snapshots and backups are listed now and then.
func (c *Counter) outdated(kind string) time.Duration {
	switch kind {
	case OrphanSnapshot, OrphanBackup:
		return 48*time.Hour + 2*c.Every
	}
	return time.Hour + 2*c.Every
}

// at returns when the list of a kind was asked for.
func at(lists volumes.Lists, kind string) time.Time {
	switch kind {
	case OrphanSnapshot:
		return lists.Snapshots.At
	case OrphanBackup:
		return lists.Backups.At
	}
	return lists.Volumes.At
}

// forget ends the series of what was counted in lists that are outdated.
func (c *Counter) forget(now time.Time) {
	for name, before := range c.before {
		for _, kind := range []string{OrphanVolume, OrphanTwin, OrphanAttachment, OrphanSnapshot, OrphanBackup} {
			if now.Sub(at(before.lists, kind)) > c.outdated(kind) {
				c.metric.DeleteLabelValues(name, kind)
				maps.DeleteFunc(before.orphans, func(k key, _ bool) bool { return k.kind == kind })
			}
		}
	}
}

// newer are the lists of now that are not those of before.
func newer(now, before volumes.Lists) (lists volumes.Lists, kinds []string) {
	if now.Volumes.At.After(before.Volumes.At) {
		lists.Volumes, kinds = now.Volumes, append(kinds, OrphanVolume, OrphanTwin, OrphanAttachment)
	}
	if now.Snapshots.At.After(before.Snapshots.At) {
		lists.Snapshots, kinds = now.Snapshots, append(kinds, OrphanSnapshot)
	}
	if now.Backups.At.After(before.Backups.At) {
		lists.Backups, kinds = now.Backups, append(kinds, OrphanBackup)
	}
	return lists, kinds
}

// count compares the lists that are new since the last count, if it is time for that.
func (c *Counter) count(ctx context.Context, now time.Time) error {
	c.forget(now)
	if now.Sub(c.last) < c.Every && !c.fresh {
		return nil
	}
	all := c.Lists(ctx)
	for name := range c.before {
		if _, there := all[name]; !there {
			delete(c.before, name)
			c.metric.DeletePartialMatch(prometheus.Labels{"cloud": name})
		}
	}
	var known *Known
	for name, lists := range all {
		fresh, kinds := newer(lists, c.before[name].lists)
		if len(kinds) == 0 {
			continue
		}
		if known == nil {
			var err error
			if known, err = ReadKnown(ctx, c.Kubernetes); err != nil {
				return err
			}
			c.last, c.fresh = now, false
		}
		if !known.Snapshots {
			kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == OrphanSnapshot || kind == OrphanBackup })
		}
		c.note(name, lists, kinds, Compare(fresh, known, now.Add(-CountedAge)))
	}
	return nil
}

// note counts the orphans of some kinds in a cloud.
func (c *Counter) note(name string, lists volumes.Lists, kinds []string, found []Orphan) {
	before := c.before[name].orphans
	numbers := make(map[string]float64)
	orphans := make(map[key]bool)
	for k := range before {
		if !slices.Contains(kinds, k.kind) {
			orphans[k] = true // its list is the same as before
		}
	}
	for _, o := range found {
		k := key{o.Kind, o.ID, o.Server}
		orphans[k] = true
		if before[k] {
			numbers[o.Kind]++
		} else {
			c.fresh = true
		}
	}
	for _, kind := range kinds {
		c.metric.WithLabelValues(name, kind).Set(numbers[kind])
	}
	// Only when they were asked for is asked later.
	lists.Volumes.Own, lists.Snapshots.Own, lists.Backups.Own = nil, nil, nil
	c.before[name] = counted{lists: lists, orphans: orphans}
}
