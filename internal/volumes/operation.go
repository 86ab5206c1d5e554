package volumes

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

const (
	// mostStuck is the largest number of series of stuck operations: the oldest ones.
	mostStuck = 100
	// mostPaused bounds how many operations are remembered that no call works on.
	mostPaused = 1000
)

// operationKey tells operations apart.
type operationKey struct {
	// cloud is its name, and name the operation's, as in volume_attach.
	cloud, name string
	// subject is the id of what is to change, or the name of what is to be made, and server
	// the id of the server where there is one.
	subject, server string
}

// operation is one change that callers ask for, until it is done. Where a call gives up,
// the caller repeats it after a pause of up to five minutes, and it goes on.
type operation struct {
	operationKey
	volumeID string
	// state is what the cloud last said about its subject.
	state string
	// stuckAfter is how long callers may ask for it before it counts as stuck.
	stuckAfter time.Duration
	// began is when the first call came, and left when the last one ended; calls are those
	// that work on it now.
	began, left time.Time
	calls       int
	// accepted is when the cloud accepted the request; zero: it has not, or there was no
	// request. open is when the last answer came in which it was going on, and over when
	// the answer came that ended the last wait; zero: there was none since.
	accepted, open, over time.Time
}

// operations are the operations of all clouds that callers ask for. They are the collector
// of those that are stuck.
type operations struct {
	mu    sync.Mutex
	byKey map[operationKey]*operation
}

// call is one call that works on an operation.
type call struct {
	*operation
	counted *counted
}

// The operations, by the names that the metrics of requests have for what begins them.
const (
	volumeCreate   = "volume_create"
	volumeDelete   = "volume_delete"
	volumeExtend   = "volume_extend"
	volumeRetype   = "volume_retype"
	volumeAttach   = "volume_attach"
	volumeDetach   = "volume_detach"
	snapshotCreate = "snapshot_create"
	snapshotDelete = "snapshot_delete"
	backupCreate   = "backup_create"
	backupDelete   = "backup_delete"
)

type callKey struct{}

// operation begins a call for an operation. end has to be called with the call's error, and
// returns it with what is known of an operation that goes on. What the call learns from the
// cloud with the returned context is noted with the operation.
func (s *Service) operation(ctx context.Context, name, subject, serverID string) (_ context.Context, end func(error) error) {
	c := call{s.counted.all.operations.enter(operationKey{s.counted.cloud, name, subject, serverID}, s.counted.stuckAfter), s.counted}
	return context.WithValue(ctx, callKey{}, c), c.end
}

// enter returns an operation that is asked for again, or a new one.
func (o *operations) enter(key operationKey, stuckAfter time.Duration) *operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire()
	op := o.byKey[key]
	if op == nil {
		op = &operation{operationKey: key, stuckAfter: stuckAfter, began: time.Now()}
		if o.byKey == nil {
			o.byKey = make(map[operationKey]*operation)
		}
		o.byKey[key] = op
	}
	op.calls++
	return op
}

// expire forgets what nobody has asked for in twice the time after which it counts as
// stuck: longer than the pauses of the side containers. o.mu is held.
func (o *operations) expire() {
	maps.DeleteFunc(o.byKey, func(_ operationKey, op *operation) bool {
		return op.calls == 0 && time.Since(op.left) > 2*op.stuckAfter
	})
}

// forget ends all operations of a cloud.
func (o *operations) forget(cloud string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.byKey, func(key operationKey, _ *operation) bool { return key.cloud == cloud })
}

// accepted notes how the cloud has answered the request of the call's operation. One
// without an answer may have been accepted.
func accepted(ctx context.Context, err error) {
	c, ok := ctx.Value(callKey{}).(call)
	if !ok || err != nil && !cloud.Uncertain(err) {
		return
	}
	o := &c.counted.all.operations
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err != nil && !c.accepted.IsZero():
		return
	case !c.over.IsZero():
		c.observe("failed", c.over) // the request before this one
	}
	c.accepted, c.open, c.over = time.Now(), time.Time{}, time.Time{}
}

// isSubject reports whether the operation of a call is about the thing with an id.
func isSubject(ctx context.Context, id string) bool {
	c, ok := ctx.Value(callKey{}).(call)
	return ok && c.subject == id
}

// saw notes a state that the cloud has told of an operation's subject.
func saw(ctx context.Context, volumeID, state string) {
	c, ok := ctx.Value(callKey{}).(call)
	if !ok {
		return
	}
	c.counted.all.operations.mu.Lock()
	defer c.counted.all.operations.mu.Unlock()
	c.volumeID, c.state = cmp.Or(volumeID, c.volumeID), state
}

// waited notes an answer to a call that waits, and whether that ends the waiting.
func waited(ctx context.Context, over bool) {
	c, ok := ctx.Value(callKey{}).(call)
	if !ok {
		return
	}
	c.counted.all.operations.mu.Lock()
	defer c.counted.all.operations.mu.Unlock()
	if over {
		c.over = time.Now()
		return
	}
	c.open, c.over = time.Now(), time.Time{}
}

// end ends a call. The operation ends with the call that succeeds. After any other it is
// remembered for a while, since callers repeat it.
func (c call) end(err error) error {
	o := &c.counted.all.operations
	o.mu.Lock()
	defer o.mu.Unlock()
	c.calls--
	c.left = time.Now()
	ended := !goesOn(err)
	switch over := !c.over.IsZero(); {
	case err == nil:
		if !c.accepted.IsZero() && !c.open.IsZero() {
			c.counted.lag.WithLabelValues(c.name).Observe(c.left.Sub(c.open).Seconds())
		}
		c.observe("ok", c.over)
		o.done(c.operation)
	case errors.Is(err, ErrBusy), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		// Another call may be about to see it over.
	case over, ended:
		c.observe("failed", c.over)
	}
	if len(o.byKey) > mostPaused {
		o.shrink()
	}
	if ended || errors.As(err, new(*goingOnError)) {
		return err
	}
	return &goingOnError{err, c.String()}
}

// goesOn reports whether what a call for an operation was about may go on after its error.
func goesOn(err error) bool {
	return errors.Is(err, ErrUnfinished) || errors.Is(err, ErrBusy) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		err != nil && noAnswer(err) || errors.Is(err, cloud.ErrUnauthorized)
}

// goingOnError is the error of a call whose operation may go on, with what is known of that.
type goingOnError struct {
	error
	known string
}

func (e *goingOnError) Error() string { return e.error.Error() + "; " + e.known }
func (e *goingOnError) Unwrap() error { return e.error }

// String tells for people since when callers ask for an operation, the last state that the
// cloud has told, and how to find out more about one that is stuck. It says the same each
// time, as far as it can: Kubernetes counts events of one text, and keeps few of many.
func (op *operation) String() string {
	text := "asked for since " + op.began.UTC().Format(time.RFC3339)
	if op.state != "" {
		text += ", last seen in status " + op.state
	}
	if op.volumeID != "" && time.Since(op.began) > op.stuckAfter {
		text += "; `cinder-csi-plugin inspect volume " + op.volumeID + "` tells what Kubernetes, Cinder and Nova know of it"
	}
	return text
}

// atWork tells for people which operation of other calls keeps a call from a subject, empty
// where none is known.
func (s *Service) atWork(ctx context.Context, subject string) string {
	own, _ := ctx.Value(callKey{}).(call)
	o := &s.counted.all.operations
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []string
	for key, op := range o.byKey {
		others := op.calls
		if op == own.operation {
			others--
		}
		if key.cloud == s.counted.cloud && key.subject == subject && others > 0 {
			text := key.name
			if key.server != "" {
				text += " of server " + key.server
			}
			found = append(found, text+", "+op.String())
		}
	}
	if len(found) == 0 {
		return ""
	}
	slices.Sort(found)
	return ": " + strings.Join(found, "; ")
}

// observe counts an operation that the cloud has accepted, and that was seen over at a
// time, or now where that is zero. operations.mu is held.
func (c call) observe(result string, over time.Time) {
	if c.accepted.IsZero() {
		return
	}
	if over.IsZero() {
		over = time.Now()
	}
	c.counted.duration.WithLabelValues(c.name, result).Observe(over.Sub(c.accepted).Seconds())
	c.accepted, c.open, c.over = time.Time{}, time.Time{}, time.Time{}
}

// done ends an operation that has succeeded, and those that it makes pointless: what was to
// be attached and is detached, or the other way round, and what is deleted. o.mu is held.
func (o *operations) done(op *operation) {
	op.began = time.Now()
	maps.DeleteFunc(o.byKey, func(key operationKey, other *operation) bool {
		same := op.server != "" && key.server == op.server || op.name == volumeDelete
		return other.calls == 0 && key.cloud == op.cloud && (key == op.operationKey || same && key.subject == op.subject)
	})
}

// shrink forgets the youngest of the operations that no call works on. o.mu is held.
func (o *operations) shrink() {
	var paused []*operation
	for _, op := range o.byKey {
		if op.calls == 0 {
			paused = append(paused, op)
		}
	}
	if len(paused) <= mostPaused {
		return
	}
	slices.SortFunc(paused, func(a, b *operation) int { return a.began.Compare(b.began) })
	for _, op := range paused[mostPaused:] {
		delete(o.byKey, op.operationKey)
	}
}

// stuckDesc describes the series of stuck operations.
func stuckDesc() *prometheus.Desc {
	return prometheus.NewDesc("cinder_csi_stuck_operation_seconds",
		"How long an operation has been asked for, where that is more than 5 minutes: the 100 oldest. state is what the cloud last said of the volume, snapshot or backup. "+
			"A series ends when the operation succeeds, or nobody has asked for it for 10 minutes.",
		[]string{"cloud", "operation", "volume_id", "node_id", "state"}, nil)
}

// Describe implements prometheus.Collector.
func (o *operations) Describe(out chan<- *prometheus.Desc) { out <- stuckDesc() }

// Collect implements prometheus.Collector: it tells which operations are stuck now.
func (o *operations) Collect(out chan<- prometheus.Metric) {
	desc, now := stuckDesc(), time.Now()
	for _, op := range o.stuck(now) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, now.Sub(op.began).Seconds(), op.labels()...)
	}
}

// labels are those of the series.
func (op *operation) labels() []string {
	return []string{op.cloud, op.name, op.volumeID, op.server, knownState(op.state)}
}

// stuck returns copies of the operations that are stuck, the oldest first, and one of those
// that no label tells apart: some snapshots of one volume, for example.
func (o *operations) stuck(now time.Time) []operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire()
	var all []operation
	for _, op := range o.byKey {
		last := now
		if op.calls == 0 {
			last = op.left
		}
		if last.Sub(op.began) > op.stuckAfter {
			all = append(all, *op)
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return a.began.Compare(b.began) })
	told := make(map[[5]string]bool)
	all = slices.DeleteFunc(all, func(op operation) bool {
		series := [5]string(op.labels())
		again := told[series]
		told[series] = true
		return again
	})
	return all[:min(len(all), mostStuck)]
}
