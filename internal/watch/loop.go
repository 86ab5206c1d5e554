package watch

import (
	"context"
	"errors"
	"slices"
	"time"
)

// hurry is for how long a waiter whose answer is likely may have to wait for
// others to be asked together with it.
const hurry = 400 * time.Millisecond

// run asks until nobody waits.
func (w *Watcher[K, S]) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		at, waiting := w.plan()
		if !waiting {
			return
		}
		if pause := time.Until(at); pause > 0 {
			timer.Reset(pause)
			select {
			case <-timer.C:
			case <-w.wake:
			}
			continue
		}
		w.ask()
	}
}

// plan returns when to ask next. When nobody waits it returns false, and the
// goroutine counts as gone.
func (w *Watcher[K, S]) plan() (at time.Time, waiting bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiters) == 0 {
		w.running = false
		w.failing = failure{}
		return time.Time{}, false
	}
	due := make([]time.Time, 0, len(w.waiters))
	for waiter := range w.waiters {
		due = append(due, waiter.due)
	}
	slices.SortFunc(due, time.Time.Compare)
	at = due[0]
	if len(due) > w.opts.Few {
		// One question answers for all: it is best asked when a good part of
		// the answers is likely, unless that makes the first wait too long.
		if most := due[(len(due)-1)/4]; most.Before(at.Add(hurry)) {
			at = most
		} else {
			at = at.Add(hurry)
		}
		at = later(at, w.bucket.ready(time.Now()))
	}
	return later(at, w.failing.retry), true
}

// ask asks once and hands the answers out.
func (w *Watcher[K, S]) ask() {
	start := time.Now()
	asked, keys, ctx, cancel := w.choose(start)
	states, err := w.opts.Ask(ctx, keys)
	abandoned := err != nil && errors.Is(ctx.Err(), context.Canceled)
	cancel()
	if abandoned {
		return
	}
	giveUp := w.record(err)
	for _, one := range asked {
		if state, ok := states[one.key]; ok {
			w.deliver(one, state, start)
		} else if giveUp {
			w.finish(one, result[S]{err: err})
		}
	}
	w.reschedule(asked, states, start)
}

// choose selects whom to ask for: all when there are many, those who are due
// when there are few.
func (w *Watcher[K, S]) choose(now time.Time) ([]*waiter[K, S], []K, context.Context, context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	everybody := len(w.waiters) > w.opts.Few
	w.bucket.take(now)
	var asked []*waiter[K, S]
	seen := make(map[K]bool, len(w.waiters))
	keys := make([]K, 0, len(w.waiters))
	for one := range w.waiters {
		if !everybody && one.due.After(now.Add(gapMin/2)) {
			continue
		}
		asked = append(asked, one)
		if !seen[one.key] {
			seen[one.key] = true
			keys = append(keys, one.key)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.opts.Timeout)
	w.abandon = cancel
	if len(w.waiters) == 0 {
		cancel()
	}
	return asked, keys, ctx, cancel
}

// record notes how a question ended and reports whether its error is to be told
// to those who wait.
func (w *Watcher[K, S]) record(err error) (giveUp bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.abandon = nil
	if err == nil {
		w.failing = failure{}
		return false
	}
	now := time.Now()
	w.failing.again(now)
	if w.opts.Final(err) || now.Sub(w.failing.since) >= w.opts.Patience {
		w.failing = failure{}
		return true
	}
	return false
}

// deliver shows a state to one waiter.
func (w *Watcher[K, S]) deliver(one *waiter[K, S], state S, asked time.Time) {
	done, err := one.done(state)
	if !done && err == nil {
		return
	}
	if err == nil && one.kind != "" {
		before := time.Duration(0)
		if !one.seen.IsZero() {
			before = one.seen.Sub(one.since)
		}
		w.opts.Estimates.learn(one.kind, before, asked.Sub(one.since))
	}
	w.finish(one, result[S]{state: state, err: err})
}

// finish ends one call of Wait.
func (w *Watcher[K, S]) finish(one *waiter[K, S], r result[S]) {
	w.mu.Lock()
	delete(w.waiters, one)
	w.mu.Unlock()
	one.result <- r
}

// reschedule decides when those who are not done are to be asked for again.
func (w *Watcher[K, S]) reschedule(asked []*waiter[K, S], states map[K]S, start time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range asked {
		if _, waiting := w.waiters[one]; !waiting {
			continue
		}
		if _, answered := states[one.key]; answered {
			one.seen = start
		}
		elapsed := max(start.Sub(one.since), time.Millisecond)
		one.due = one.since.Add(w.opts.Estimates.next(one.kind, elapsed))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
