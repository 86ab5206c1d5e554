// Package state is the development cloud without its HTTP: the records of
// volumes, snapshots, backups and servers, the rules by which a request is
// accepted or refused, and the state machines that carry an accepted one to
// its end. Every accepted request leaves a task in the store together with the
// transitional state that it caused; a task is resumed after a restart and is
// removed together with the state that it ends in. Refusals carry the literal
// status and text of the real services.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/fault"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/store"
)

// GiB is the unit of all sizes in Cinder.
const GiB = int64(1) << 30

// DefaultZone is the zone of volumes whose creator names none.
const DefaultZone = "nova"

// Cloud is a cloud. All methods may be used by many goroutines at once.
type Cloud struct {
	db        *store.DB
	volumes   *store.Table[Volume]
	snapshots *store.Table[Snapshot]
	backups   *store.Table[Backup]
	types     *store.Table[VolumeType]
	qos       *store.Table[QoS]
	messages  *store.Table[Message]
	servers   *store.Table[Server]
	actions   *store.Table[Action]
	tasks     *store.Table[Task]
	settings  *store.Table[Settings]
	sequence  *store.Table[uint64]

	plane  Plane
	faults *fault.Plan
	log    *zap.Logger

	usage map[string]*Usage // by project; guarded by the store's lock

	timing sync.RWMutex
	model  latency.Model
	behave Behaviour

	running  sync.WaitGroup
	queue    queue
	serial   locks
	wakes    *wakes
	clearing sync.Mutex
}

// Options are what Open needs besides the file.
type Options struct {
	Plane     Plane // nil: no data plane
	Latency   latency.Model
	Behaviour *Behaviour // nil: as the store has it, or the default
	Logger    *zap.Logger
	// Ended is told which volume a task was about that is over. It runs under
	// the lock. Nil: nobody is told.
	Ended func(volumeID string)
}

// settingsKey is the id of the only row of the tables that have one.
const settingsKey = "cloud"

// Open opens the cloud whose records are in the file at path and goes on with
// what was under way when it was closed or killed.
func Open(path string, opts Options) (*Cloud, error) {
	c := &Cloud{
		volumes: store.NewTable[Volume]("volumes"), snapshots: store.NewTable[Snapshot]("snapshots"),
		backups: store.NewTable[Backup]("backups"), types: store.NewTable[VolumeType]("types"),
		qos: store.NewTable[QoS]("qos"), messages: store.NewTable[Message]("messages"),
		servers: store.NewTable[Server]("servers"), actions: store.NewTable[Action]("actions"),
		tasks: store.NewTable[Task]("tasks"), settings: store.NewTable[Settings]("settings"),
		sequence: store.NewTable[uint64]("sequence"),
		plane:    opts.Plane, log: opts.Logger, model: opts.Latency.WithDefaults(), usage: map[string]*Usage{}, wakes: newWakes(),
	}
	if c.plane == nil {
		c.plane = NoPlane{}
	}
	if c.log == nil {
		c.log = zap.NewNop()
	}
	c.watchUsage()
	c.tasks.OnChange(func(_ string, before, after *Task) {
		if before == nil && after != nil {
			c.queue.add(*after)
		}
		// A guest notices growth when it likes; Cinder is done before that.
		if opts.Ended != nil && after == nil && before != nil && before.Kind != taskGrowGuest {
			opts.Ended(before.VolumeID)
		}
	})
	db, err := store.Open(path, c.volumes, c.snapshots, c.backups, c.types, c.qos, c.messages, c.servers, c.actions, c.tasks, c.settings, c.sequence)
	if err != nil {
		return nil, err
	}
	c.db = db
	if err := c.prepare(opts); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return c, nil
}

// prepare fills an empty store and reads the settings of one that is not.
func (c *Cloud) prepare(opts Options) error {
	err := c.db.Update(func() error {
		s, ok := c.settings.Get(settingsKey)
		if !ok {
			s = Settings{Accounts: newAccounts(), Quotas: map[string]Quotas{}}
		}
		if opts.Behaviour != nil {
			b, err := opts.Behaviour.check()
			if err != nil {
				return err
			}
			s.Behaviour = &b
		}
		if s.Behaviour == nil {
			b := DefaultBehaviour()
			s.Behaviour = &b
		}
		c.behave = *s.Behaviour
		c.settings.Put(settingsKey, s)
		if c.types.Len() == 0 {
			c.seedTypes()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("prepare the state: %w", err)
	}
	var plan []fault.Fault
	s, _ := c.settings.Get(settingsKey)
	if len(s.Faults) > 0 {
		if err := json.Unmarshal(s.Faults, &plan); err != nil {
			return fmt.Errorf("read the fault plan: %w", err)
		}
	}
	c.faults = fault.NewPlan(plan, c.saveFaults)
	return nil
}

func (c *Cloud) saveFaults(plan []fault.Fault) {
	data, err := json.Marshal(plan)
	if err == nil {
		err = c.db.Update(func() error {
			s, _ := c.settings.Get(settingsKey)
			s.Faults = data
			c.settings.Put(settingsKey, s)
			return nil
		})
	}
	if err != nil {
		c.log.Error("the fault plan is not saved", zap.Error(err))
	}
}

// Run starts the tasks that were under way. It is called once, after the
// servers are known to the data plane.
func (c *Cloud) Run() { c.thaw() }

// Close stops the tasks where they are and closes the store.
func (c *Cloud) Close() error {
	c.clearing.Lock()
	defer c.clearing.Unlock()
	c.freeze()
	return c.db.Close()
}

// Faults is the plan of what goes wrong.
func (c *Cloud) Faults() *fault.Plan { return c.faults }

// update changes the state and then starts the tasks that it asked for.
func (c *Cloud) update(fn func() error) error {
	if err := c.db.Update(fn); err != nil {
		return err
	}
	c.launch()
	return nil
}

// view reads the state.
func (c *Cloud) view(fn func()) { c.db.View(fn) }

// nextSeq returns the next number of the order of creation. Only in an update.
func (c *Cloud) nextSeq() uint64 {
	n, _ := c.sequence.Get(settingsKey)
	c.sequence.Put(settingsKey, n+1)
	return n + 1
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func newID() string { return uuid.NewString() }

// Call says who asks, and with which request.
type Call struct {
	RequestID string
	UserID    string
	ProjectID string
	Admin     bool
	// Delegated tells that the token came from an application credential.
	Delegated bool
	// Fault is what shall happen to what the request starts; nil for nothing.
	Fault *fault.Fault
}

// sees reports whether the caller may know about a thing of a project.
func (c Call) sees(projectID string) bool { return c.Admin || c.ProjectID == projectID }
