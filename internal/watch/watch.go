// Package watch lets many callers wait for something to happen elsewhere, with
// one goroutine asking on behalf of all of them. It learns how long each kind
// of operation takes and asks when an answer is likely, asks for everybody at
// once when many wait, and not at all when nobody does.
package watch

import (
	"context"
	"sync"
	"time"
)

// Options says whom a Watcher asks, and how often.
type Options[K comparable, S any] struct {
	// Ask returns the present state of keys. A key that it leaves out is
	// asked for again later. It may return states together with an error.
	Ask func(ctx context.Context, keys []K) (map[K]S, error)
	// Final reports errors of Ask that asking again does not cure. Waiters are
	// told at once. Nil: none.
	Final func(error) bool
	// Few is the largest number of waiters that are asked for one by one, as
	// soon as each one's answer is likely. More than that are asked for
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
	// Timeout ends a single call of Ask. Default: 15 s.
	Timeout time.Duration
	// Patience is for how long Ask may fail before waiters are told. Default:
	// 10 s.
	Patience time.Duration
	// Estimates are what has been learned; several watchers may share them.
	// Nil: the watcher's own.
	Estimates *Estimates
}

// Watcher watches the keys of one source. Its goroutine exists only while
// somebody waits.
type Watcher[K comparable, S any] struct {
	opts Options[K, S]

	mu      sync.Mutex
	waiters map[*waiter[K, S]]struct{}
	running bool
	// wake tells the goroutine that the waiters have changed.
	wake chan struct{}
	// abandon ends the call of Ask that is under way, if any.
	abandon context.CancelFunc
	bucket  bucket
	failing failure
}

// waiter is one call of Wait.
type waiter[K comparable, S any] struct {
	key   K
	kind  string
	done  func(S) (bool, error)
	since time.Time
	// seen is when the source was last found not to be done yet, and due when
	// it is best asked again.
	seen, due time.Time
	result    chan result[S]
}

type result[S any] struct {
	state S
	err   error
}

// New returns a watcher.
func New[K comparable, S any](opts Options[K, S]) *Watcher[K, S] {
	if opts.Rate == nil {
		opts.Rate = func() float64 { return 1 }
	}
	opts.Burst = max(opts.Burst, 1)
	if opts.Timeout <= 0 {
		opts.Timeout = 15 * time.Second
	}
	if opts.Patience <= 0 {
		opts.Patience = 10 * time.Second
	}
	if opts.Final == nil {
		opts.Final = func(error) bool { return false }
	}
	if opts.Gather == nil {
		opts.Gather = func() time.Duration { return 0 }
	}
	if opts.Estimates == nil {
		opts.Estimates = &Estimates{}
	}
	return &Watcher[K, S]{
		opts:    opts,
		waiters: make(map[*waiter[K, S]]struct{}),
		wake:    make(chan struct{}, 1),
		bucket:  bucket{rate: opts.Rate, burst: float64(opts.Burst), tokens: float64(opts.Burst)},
	}
}

// Wait returns the first state of key for which done returns true or an error,
// together with that error. Only states that were asked for after the call of
// Wait count. kind names the operation that is under way, whose usual duration
// decides when to ask; an empty kind asks at once. When ctx ends, Wait returns
// its error; when the source cannot be asked, what Ask returned. done is called
// from another goroutine, must not block, and is not called any more once Wait
// has returned because ctx ended, save for a call that is just running.
func (w *Watcher[K, S]) Wait(ctx context.Context, key K, kind string, done func(S) (bool, error)) (S, error) {
	now := time.Now()
	me := &waiter[K, S]{key: key, kind: kind, done: done, since: now, result: make(chan result[S], 1)}
	if kind == "" {
		me.due = now.Add(w.opts.Gather())
	} else {
		me.due = now.Add(w.opts.Estimates.next(kind, 0))
	}
	if err := ctx.Err(); err != nil {
		var none S
		return none, err
	}
	w.add(me)
	defer w.remove(me)
	select {
	case r := <-me.result:
		return r.state, r.err
	case <-ctx.Done():
		var none S
		return none, ctx.Err()
	}
}

// Waiting returns how many calls of Wait are pending.
func (w *Watcher[K, S]) Waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiters)
}

func (w *Watcher[K, S]) add(me *waiter[K, S]) {
	w.mu.Lock()
	defer w.mu.Unlock()
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
