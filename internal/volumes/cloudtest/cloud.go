// Package cloudtest is a cloud in memory for tests: it has state, passes
// through the states that Cinder and Nova pass through, takes time, counts what
// it is asked, and fails when told to.
package cloudtest

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// Latency is how long things take.
type Latency struct {
	// Request is how long every request takes.
	Request time.Duration
	// The others are how long what was asked for takes after that.
	Create, Delete, Attach, Detach, Extend, Snapshot, Backup time.Duration
	// Spread makes the others vary, evenly, by up to this share of themselves
	// to either side.
	Spread float64
}

// of returns how long something takes this time.
func (l Latency) of(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + l.Spread*(2*rand.Float64()-1))) //nolint:gosec // a latency is no secret
}

// Cloud implements cloud.Cloud. Its fields may be set before it is used.
type Cloud struct {
	Latency Latency
	// AttachLimit is how many volumes a server can have; 0: any number.
	AttachLimit int
	// QuotaGiB is how much all volumes together may have; 0: any.
	QuotaGiB int64
	// Zones are the zones there are; the first is the default.
	ZoneNames []string
	// FullZones have no room: volumes for them end in error.
	FullZones []string
	// HideMessages keeps the reason of that from everybody.
	HideMessages bool
	// Types are the volume types, the default first. A name that none of them has is
	// that of a type without extra specs, unless it begins with no-such.
	Types []cloud.VolumeType
	// HideSpecs keeps the extra specs of types from everybody, as clouds before Xena do.
	HideSpecs bool
	// ZoneFallback has volumes for other zones made in the default one.
	ZoneFallback bool

	mu        sync.Mutex
	volumes   map[string]*volume
	snapshots map[string]*snapshot
	backups   map[string]*backup
	servers   map[string]*server
	faults    []*Fault
	counts    map[string]int
	created   int
	orphans   int
	// changed is when each thing last reached another state.
	changed map[string]time.Time
	// late is what happens after its answer was given.
	late []step
}

type volume struct {
	cloud.Volume
	// asked is the request that made it.
	asked cloud.VolumeRequest
	fault cloud.Fault
	// lost tells that no host will ever hear of it.
	lost bool
	// pending is what will happen to it.
	pending []step
	gone    bool
}

type snapshot struct {
	cloud.Snapshot
	fault   cloud.Fault
	pending []step
	gone    bool
}

type backup struct {
	cloud.Backup
	pending []step
	gone    bool
}

type server struct {
	cloud.Server
	// attached are the volumes that Nova lists.
	attached []string
}

// step is something that happens at a certain time.
type step struct {
	at    time.Time
	apply func()
}

// New returns an empty cloud with one zone, nova, in which everything is
// instantaneous.
func New() *Cloud {
	return &Cloud{
		ZoneNames: []string{"nova"},
		Types: []cloud.VolumeType{
			{ID: "11111111-1111-4111-8111-111111111111", Name: "default", ExtraSpecs: map[string]string{}},
			{ID: "22222222-2222-4222-8222-222222222222", Name: "multiattach", ExtraSpecs: map[string]string{"multiattach": "<is> True"}},
		},
		volumes:   make(map[string]*volume),
		snapshots: make(map[string]*snapshot),
		backups:   make(map[string]*backup),
		servers:   make(map[string]*server),
		counts:    make(map[string]int),
		changed:   make(map[string]time.Time),
	}
}

// AddServer adds a server and returns its id.
func (c *Cloud) AddServer() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := uuid.NewString()
	c.servers[id] = &server{Server: cloud.Server{ID: id, Status: "ACTIVE"}}
	return id
}

// DeleteServer removes a server. keepAttachments leaves Cinder in the belief
// that its volumes are attached.
func (c *Cloud) DeleteServer(id string, keepAttachments bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.servers, id)
	if keepAttachments {
		return
	}
	for _, v := range c.volumes {
		c.release(v, id)
	}
}

// Add puts a volume as it is, and returns its id.
func (c *Cloud) Add(v cloud.Volume) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.ID == "" {
		v.ID = uuid.NewString()
	}
	if v.Zone == "" {
		v.Zone = c.ZoneNames[0]
	}
	v.CreatedAt = c.now()
	c.volumes[v.ID] = &volume{Volume: v}
	for _, a := range v.Attachments {
		if s := c.servers[a.ServerID]; s != nil {
			s.attached = append(s.attached, v.ID)
		}
	}
	return v.ID
}

// Set changes a volume as an operator could.
func (c *Cloud) Set(id string, change func(*cloud.Volume)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	v := c.volumes[id]
	v.pending = nil
	change(&v.Volume)
}

// Forget makes Nova, or with reverse set Cinder, forget an attachment.
func (c *Cloud) Forget(volumeID, serverID string, reverse bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reverse {
		c.release(c.volumes[volumeID], serverID)
		return
	}
	c.forget(serverID, volumeID)
}

// Volumes returns the volumes that exist.
func (c *Cloud) Volumes() []cloud.Volume {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var all []cloud.Volume
	for _, v := range c.volumes {
		all = append(all, v.Volume)
	}
	return all
}

// Orphans returns how many volumes were forgotten by Cinder before it had chosen
// a back end for them, which makes them all the same.
func (c *Cloud) Orphans() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.orphans
}

// Asked returns the request that made a volume.
func (c *Cloud) Asked(id string) cloud.VolumeRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.volumes[id].asked
}

// Snapshots returns the snapshots that exist.
func (c *Cloud) Snapshots() []cloud.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var all []cloud.Snapshot
	for _, s := range c.snapshots {
		all = append(all, s.Snapshot)
	}
	return all
}

// Backups returns the backups that exist.
func (c *Cloud) Backups() []cloud.Backup {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var all []cloud.Backup
	for _, b := range c.backups {
		all = append(all, b.Backup)
	}
	return all
}

// Changed returns when a thing last reached another state.
func (c *Cloud) Changed(id string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	return c.changed[id]
}

// Requests returns how often each operation was asked for since the last call.
func (c *Cloud) Requests() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts
	c.counts = make(map[string]int)
	return counts
}

// request is one request: it takes its time, fails if a fault says so, and acts.
func (c *Cloud) request(ctx context.Context, op, resource string, act func() error) error {
	if err := sleep(ctx, c.Latency.Request); err != nil {
		return unavailable(op, resource, err)
	}
	c.mu.Lock()
	c.settle()
	c.counts[op]++
	fault := c.fault(op)
	var err error
	if fault != nil && fault.Late > 0 {
		c.late = append(c.late, step{time.Now().Add(fault.Late), func() { _ = act() }})
	}
	if fault == nil || fault.After {
		err = act()
		if err == nil && !strings.HasSuffix(op, ".get") && !strings.HasSuffix(op, ".list") {
			c.changed[resource] = time.Now()
		}
	}
	c.mu.Unlock()
	if fault == nil {
		return err
	}
	if fault.Delay > 0 {
		if waitErr := sleep(ctx, fault.Delay); waitErr != nil {
			return unavailable(op, resource, waitErr)
		}
	}
	if fault.Err == nil {
		return err
	}
	return fault.error(op, resource)
}

// settle lets happen what was to happen by now.
func (c *Cloud) settle() {
	now := time.Now()
	c.late = slices.DeleteFunc(c.late, func(s step) bool {
		due := !s.at.After(now)
		if due {
			s.apply()
		}
		return due
	})
	for id, v := range c.volumes {
		v.pending = c.apply(id, v.pending, now)
		if v.gone {
			delete(c.volumes, id)
		}
	}
	for id, s := range c.snapshots {
		s.pending = c.apply(id, s.pending, now)
		if s.gone {
			delete(c.snapshots, id)
		}
	}
	for id, b := range c.backups {
		b.pending = c.apply(id, b.pending, now)
		if b.gone {
			delete(c.backups, id)
		}
	}
}

func (c *Cloud) apply(id string, pending []step, now time.Time) []step {
	for len(pending) > 0 && !pending[0].at.After(now) {
		next := pending[0]
		c.changed[id] = next.at
		pending = pending[1:]
		next.apply()
	}
	return pending
}

// now returns a time that is different every time, so that lists have an order.
func (c *Cloud) now() time.Time {
	c.created++
	return time.Now().Add(time.Duration(c.created))
}

func (c *Cloud) forget(serverID, volumeID string) {
	if s := c.servers[serverID]; s != nil {
		s.attached = slices.DeleteFunc(s.attached, func(id string) bool { return id == volumeID })
	}
}

func (c *Cloud) release(v *volume, serverID string) {
	v.Attachments = slices.DeleteFunc(slices.Clone(v.Attachments), func(a cloud.Attachment) bool { return a.ServerID == serverID })
	if len(v.Attachments) == 0 && v.Status != cloud.VolumeDeleting {
		v.Status = cloud.VolumeAvailable
	} else if len(v.Attachments) > 0 {
		v.Status = cloud.VolumeInUse
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
