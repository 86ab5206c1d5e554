package inspect

import (
	"context"
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
type Counter struct {
	Kubernetes *kube.Client
	// Lists returns the last complete lists of each cloud by its name.
	Lists func(context.Context) map[string]volumes.Lists
	// Every is the pause between two counts.
	Every  time.Duration
	Logger *zap.Logger
	metric *prometheus.GaugeVec
	// before are the lists and the orphans of each cloud at the last count.
	before map[string]counted
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
	ticker := time.NewTicker(c.Every)
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

// count compares the lists that are new since the last count. What was deleted after its
// list was read has lost its object meanwhile, and looks like an orphan: only what two lists
// have is counted.
func (c *Counter) count(ctx context.Context, now time.Time) error {
	var known *Known
	all := c.Lists(ctx)
	for name := range c.before {
		if _, there := all[name]; !there {
			delete(c.before, name)
			c.metric.DeletePartialMatch(prometheus.Labels{"cloud": name})
		}
	}
	for name, lists := range all {
		before := c.before[name]
		fresh, kinds := newer(lists, before.lists)
		if len(kinds) == 0 {
			continue
		}
		if known == nil {
			var err error
			if known, err = ReadKnown(ctx, c.Kubernetes); err != nil {
				return err
			}
		}
		numbers := make(map[string]float64)
		orphans := make(map[key]bool)
		for k := range before.orphans {
			if !slices.Contains(kinds, k.kind) {
				orphans[k] = true // its list is the same as before
			}
		}
		for _, o := range Compare(fresh, known, now.Add(-CountedAge)) {
			k := key{o.Kind, o.ID, o.Server}
			orphans[k] = true
			if before.orphans[k] {
				numbers[o.Kind]++
			}
		}
		for _, kind := range kinds {
			c.metric.WithLabelValues(name, kind).Set(numbers[kind])
		}
		c.before[name] = counted{lists: lists, orphans: orphans}
	}
	return nil
}
