// Package watch lets many callers wait for something to happen elsewhere, with
// one goroutine asking on behalf of all of them. It notices how long each kind of
// operation takes and asks when it is likely to be over, asks for everybody at
// once when many wait, and not at all when nobody does.
package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

const (
	// timeout ends a single call of Ask.
	timeout = 15 * time.Second
	// patience is for how long Ask may fail before the callers of Wait are told.
	patience = 10 * time.Second
)

// Options says whom a Watcher asks, and how often.
type Options[K comparable, S any] struct {
	// Name says in traces what is asked for, as in "volumes".
	Name string
	// Ask returns the present state of keys. A key that it leaves out is
	// asked for again later. It may return states together with an error. Its
	// context ends after 15 s, or when nobody waits any more.
	Ask func(ctx context.Context, keys []K) (map[K]S, error)
	// Final reports errors of Ask that asking again does not cure: the callers of
	// Wait get them at once. They get any other error when Ask has failed for 10 s.
	// Nil: no error is final.
	Final func(error) bool
	// Few is the largest number of waiters that are asked for one by one, each
	// when its operation is likely to be over. More than that are asked for
	// together, and not more often than Rate allows.
	Few int
	// Rate returns how many times a second Ask may be called while more than
	// Few wait; it may change its mind. Burst of them may follow each other
	// closely after a quiet time. Defaults: 1 and 1.
	Rate  func() float64
	Burst int
	// Gather returns for how long a question that is to be asked at once waits
	// for others to join it. Nil: it does not wait.
	Gather func() time.Duration
	// Panicked returns the error for those whose question ended in a panic, which
	// it may log: it is called on the stack of the panic. Nil: the error tells the
	// panic's value.
	Panicked func(value any) error
	// Random returns a number in [0, 1), by which questions are spread in time.
	// Nil: rand.Float64.
	Random func() float64
}

// Watcher watches the keys of one source. Its goroutine exists only while
// somebody waits.
type Watcher[K comparable, S any] struct {
	opts Options[K, S]

	mu      sync.Mutex
	waiters map[*waiter[K, S]]struct{}
	// usual is what was learned about each kind of operation.
	usual   map[string]usual
	running bool
	// wake tells the goroutine that the waiters have changed.
	wake chan struct{}
	// abandon ends the call of Ask that is under way, if any.
	abandon context.CancelFunc
	pace    pace
	failing failure
}

// waiter is one call of Wait.
type waiter[K comparable, S any] struct {
	key  K
	kind string
	done func(S) (bool, error)
	// since is when the call began, due when to ask next; asked tells that there
	// was an answer already.
	since, due time.Time
	asked      bool
	// span is that of the caller; nil: the caller's work is not traced.
	span   trace.Span
	result chan result[S]
}

type result[S any] struct {
	state S
	err   error
	// poll is the span of the question that was answered so.
	poll trace.SpanContext
}

// New returns a watcher.
func New[K comparable, S any](opts Options[K, S]) *Watcher[K, S] {
	if opts.Rate == nil {
		opts.Rate = func() float64 { return 1 }
	}
	opts.Burst = max(opts.Burst, 1)
	if opts.Final == nil {
		opts.Final = func(error) bool { return false }
	}
	if opts.Gather == nil {
		opts.Gather = func() time.Duration { return 0 }
	}
	if opts.Panicked == nil {
		opts.Panicked = func(value any) error { return fmt.Errorf("panic: %v", value) }
	}
	if opts.Random == nil {
		opts.Random = rand.Float64
	}
	return &Watcher[K, S]{
		opts:    opts,
		waiters: make(map[*waiter[K, S]]struct{}),
		usual:   make(map[string]usual),
		wake:    make(chan struct{}, 1),
		pace:    pace{perSecond: opts.Rate, limiter: rate.NewLimiter(rate.Limit(opts.Rate()), opts.Burst)},
	}
}

// Wait returns the first state of key for which done returns true or an error,
// together with that error. Only states that were asked for after the call of
// Wait count. kind names the operation that is under way, whose usual duration
// decides when to ask; an empty kind asks at once. When ctx ends, Wait returns
// its error; when the source cannot be asked, what Ask returned. done is called
// from another goroutine, must not block, and is not called any more once Wait
// has returned because ctx ended, save for a call that is just running. A panic
// of Ask or done is the error of those whom it is about.
//
// Where the span in ctx is recorded, the question that is asked for the caller and for
// others has a span of its own, in a trace of its own. The two have links to each other.
func (w *Watcher[K, S]) Wait(ctx context.Context, key K, kind string, done func(S) (bool, error)) (S, error) {
	me := &waiter[K, S]{key: key, kind: kind, done: done, since: time.Now(), result: make(chan result[S], 1)}
	if err := ctx.Err(); err != nil {
		var none S
		return none, err
	}
	gather := w.opts.Gather()
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		me.span = span
	}
	w.add(me, gather)
	defer w.remove(me)
	select {
	case r := <-me.result:
		if me.span != nil && r.poll.IsValid() {
			me.span.AddLink(trace.Link{SpanContext: r.poll})
		}
		return r.state, r.err
	case <-ctx.Done():
		var none S
		return none, ctx.Err()
	}
}

func (w *Watcher[K, S]) add(me *waiter[K, S], gather time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	me.due = me.since.Add(gather)
	if me.kind != "" {
		me.due = me.since.Add(w.usual[me.kind].next(0))
	}
	w.waiters[me] = struct{}{}
	if !w.running {
		w.running = true
		go w.run()
		return
	}
	w.nudge()
}

// remove forgets a waiter. The last one ends the question that is under way.
func (w *Watcher[K, S]) remove(me *waiter[K, S]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiters, me)
	if len(w.waiters) > 0 {
		return
	}
	if w.abandon != nil {
		w.abandon()
	}
	w.nudge()
}

// nudge makes the goroutine plan again.
func (w *Watcher[K, S]) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
