// Package volumes is the controller's domain: volumes are created until they
// are usable, attached until they are attached, grown, copied, and deleted
// until they are gone. Operations on one volume never overlap, every one of
// them can be repeated after any lost answer, and all that wait share their
// questions to the cloud.
package volumes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/keylock"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/watch"
)

const (
	// Description is what volumes, snapshots and backups are described as.
	Description = "Created by OpenStack Cinder CSI driver"
	// ReservedPrefix begins the metadata keys that mean something to the driver.
	ReservedPrefix = "cinder.csi.openstack.org/"
	// ClusterKey is the metadata key that names the cluster something was made
	// for. What lacks it, or names another cluster, is never adopted.
	ClusterKey = ReservedPrefix + "cluster"
	// NeverPublishedKey is the metadata key of a volume that was never attached for a
	// workload; its value is "true". A volume without a source is made with it, and its
	// first publication takes that away; see NeverPublished. (A key with a slash has no
	// address of its own in Cinder: it can be given another value, and not be deleted.)
	NeverPublishedKey = ReservedPrefix + "never-published"
	// provisionalKey is the metadata key of a volume that no call has returned yet; its
	// value is "true", and "false" when one has. Only volumes of which the cloud does
	// not say beforehand whether they will be what is asked for have it.
	provisionalKey = ReservedPrefix + "provisional"
)

// lockWait is how long a call waits for another one on the same thing before it returns
// ErrBusy: longer than most operations on a volume that is repeated at once, and short
// enough not to occupy the caller.
const lockWait = 2 * time.Second

// Options tunes a Service; the zero value is good for production.
type Options struct {
	// Cluster is the value of ClusterKey. Without it nothing can be created.
	Cluster string
	// Metadata is recorded with every volume, snapshot and backup that is made. What a
	// request records under the same key takes precedence. See CheckMetadata.
	Metadata map[string]string
	// Cloud is the name of the cloud in metrics, and Metrics are what all services of the
	// process count; nil: nobody reads them.
	Cloud   string
	Metrics *Metrics
	// Locks are shared by all services of one project: two sets of credentials for it
	// then exclude each other. Nil: the service's own.
	Locks *Locks
	// Logger gets what happens outside of any single call: the requests that many
	// calls wait for together, at debug level. Nil: nothing is logged.
	Logger *zap.Logger
	// CreateWait is how long Create waits for a volume before it answers that it is not
	// finished. Default: 60 s, a third of the sidecar's own patience: a creation that the
	// cloud has lost must not keep a worker of the sidecar's for longer.
	CreateWait time.Duration
	// LostAfter is the age from which on a volume that is still being created is taken
	// for lost; see removeLost. Default: 1 h.
	LostAfter time.Duration
	// SnapshotWait is how long CreateSnapshot waits before it answers that the
	// snapshot is not finished. Default: 30 s.
	SnapshotWait time.Duration
	// StuckAfter is how long callers may ask for an operation that doesn't end before it is
	// counted as stuck. Default: 5 min.
	StuckAfter time.Duration
	// StaleWait is how long Detach waits for Cinder to notice that a server or
	// an attachment is gone before it says so. Default: 10 s.
	StaleWait time.Duration
}

// Locks serialise the operations on each volume, and on each server, of one project.
type Locks struct {
	locks, queues keylock.Locks[string]
	// sharing are the volumes that several servers wait for, hosts the servers on
	// which calls are at work.
	sharing, hosts bulkheads
	// unrecorded tells that the cloud has refused to put a first publication on record, so
	// that a volume may bear the mark and hold data: no mark counts any more.
	unrecorded atomic.Bool
}

// NewLocks returns locks for one project.
func NewLocks() *Locks {
	return &Locks{
		// With 10 calls, half a minute for those that share a volume, and 15 s for a server.
		sharing: bulkheads{kind: "volume", alone: 5 * time.Minute, most: 16},
		hosts:   bulkheads{kind: "server", advice: serverEvents, alone: 150 * time.Second},
	}
}

// Service is the volumes of one cloud.
type Service struct {
	cloud cloud.Cloud
	opts  Options
	*Locks
	volumes *watch.Watcher[volumeKey, volumeState]
	snaps   *watch.Watcher[string, *cloud.Snapshot]
	backups *watch.Watcher[string, *cloud.Backup]
	servers servers
	lists   lists
	counted *counted

	// restored are the ids, by their names, of volumes from snapshots and backups that were
	// seen in the making; see claimants.
	restored sync.Map

	mu sync.Mutex
	// unansweredSince tells since when questions about the capacity have had no answer.
	unansweredSince map[string]time.Time
}

// New returns a service that asks c. It starts nothing: goroutines exist only
// while a call waits. Close ends its metrics.
func New(c cloud.Cloud, opts Options) *Service {
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	if opts.Locks == nil {
		opts.Locks = NewLocks()
	}
	opts.CreateWait = cmp.Or(opts.CreateWait, time.Minute)
	opts.LostAfter = cmp.Or(opts.LostAfter, time.Hour)
	opts.SnapshotWait = cmp.Or(opts.SnapshotWait, 30*time.Second)
	opts.StaleWait = cmp.Or(opts.StaleWait, 10*time.Second)
	opts.StuckAfter = cmp.Or(opts.StuckAfter, 5*time.Minute)
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	s := &Service{opts: opts, counted: opts.Metrics.open(opts.Cloud, opts.StuckAfter), Locks: opts.Locks, unansweredSince: make(map[string]time.Time)}
	s.cloud = seen{Cloud: c, service: s}
	s.servers = servers{service: s}
	s.volumes = watch.New(askOptions(s, "volumes", s.servers.rate, s.askVolumes))
	s.snaps = watch.New(askOptions(s, "snapshots", nil, s.askSnapshots))
	s.backups = watch.New(askOptions(s, "backups", nil, s.askBackups))
	return s
}

// Close ends the service's share in the metrics of its cloud. No call may be under way.
func (s *Service) Close() { s.counted.close() }

// Get returns a volume; cloud.ErrNotFound for an unknown or odd id.
func (s *Service) Get(ctx context.Context, id string) (*cloud.Volume, error) {
	id = canonicalID(id)
	if err := checkID("volume", id); err != nil {
		return nil, err
	}
	return s.cloud.GetVolume(ctx, id)
}

// List returns one page of the project's volumes and the marker of the next.
func (s *Service) List(ctx context.Context, page cloud.Page) ([]cloud.Volume, string, error) {
	return s.cloud.ListVolumes(ctx, cloud.VolumeFilter{}, page)
}

// Attached reports whether any volume of the project is attached to a server.
func (s *Service) Attached(ctx context.Context) (bool, error) {
	for page := (cloud.Page{Stable: true}); ; {
		found, next, err := s.List(ctx, page)
		if err != nil {
			return false, err
		}
		for i := range found {
			if len(found[i].Attachments) > 0 {
				return true, nil
			}
		}
		if next == "" {
			return false, nil
		}
		page.Marker = next
	}
}

// checkID returns cloud.ErrNotFound for an id that Cinder and Nova never give:
// asking for one could name something else than what is meant.
func checkID(what, id string) error {
	if isID(id) {
		return nil
	}
	return &cloud.Error{Kind: cloud.ErrNotFound, Operation: "find " + what, Resource: strconv.Quote(id), Message: "it is not a UUID"}
}

// canonicalID returns an id as the cloud writes it. People who make PersistentVolumes by
// hand may use capitals, which most clouds take for the same: in its lists, and to
// its locks, a volume has one id.
func canonicalID(id string) string { return strings.ToLower(id) }

// isID reports whether id can be one of Cinder's or Nova's.
func isID(id string) bool { return len(id) == 36 && uuid.Validate(id) == nil }

// lock serialises the operations on one thing.
func (s *Service) lock(ctx context.Context, what, key string) (func(), error) {
	unlock, err := s.turn(ctx, &s.locks, what+" "+key, lockWait)
	if errors.Is(err, keylock.ErrBusy) {
		return nil, fmt.Errorf("%s %s: %w%s", what, key, ErrBusy, s.atWork(ctx, key))
	}
	return unlock, err
}

// lockToShare is lock for a call that waits for its turn as long as others have
// theirs: several servers want one volume, and a call that came back too early would
// be sent again after pauses that double.
func (s *Service) lockToShare(ctx context.Context, volumeID string) (func(), error) {
	limited, visit, err := s.sharing.enter(ctx, volumeID)
	if err != nil {
		return nil, err
	}
	unlock, err := s.turn(limited, &s.locks, "volume "+volumeID, 0)
	if err != nil {
		visit.leave()
		return nil, visit.explain(ctx, limited, err)
	}
	visit.progress()
	return func() { unlock(); visit.leave() }, nil
}

// owned reports whether metadata says that something was made for this cluster.
func (s *Service) owned(metadata map[string]string) bool {
	cluster, ok := metadata[ClusterKey]
	return ok && cluster == s.opts.Cluster
}

// log returns the logger of a request that makes volume id. All others have the id in
// their loggers, as each has what its request names.
func log(ctx context.Context, id string) *zap.Logger {
	return logging.From(ctx).With(zap.String("volumeID", id))
}
