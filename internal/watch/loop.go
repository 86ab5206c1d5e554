package watch

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// hurry is for how long a waiter whose operation is likely to be over may have to
// wait for others to be asked together with it.
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
		w.round()
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
		// the operations is likely to be over, unless that makes the first
		// wait too long.
		at = earlier(due[(len(due)-1)/4], at.Add(hurry))
		at = later(at, w.pace.ready(time.Now()))
	}
	return later(at, w.failing.retry), true
}

// round asks once and hands the answers out.
func (w *Watcher[K, S]) round() {
	start := time.Now()
	asked, keys, ctx, cancel := w.choose(start)
	ctx, span := w.trace(ctx, asked)
	states, err := w.ask(ctx, keys)
	abandoned := err != nil && errors.Is(ctx.Err(), context.Canceled)
	endSpan(span, err, abandoned)
	cancel()
	if abandoned {
		return
	}
	giveUp := w.record(err, len(states) > 0)
	found := make(map[string]finding)
	for _, one := range asked {
		state, ok := states[one.key]
		switch {
		case ok:
			w.deliver(one, state, start, found, span.SpanContext())
		case giveUp:
			w.finish(one, result[S]{err: err, poll: span.SpanContext()})
		}
	}
	w.reschedule(asked, found, start)
}

// panicked is an error that stands for a panic.
type panicked struct{ error }

func (p panicked) Unwrap() error { return p.error }

// ask calls Ask.
func (w *Watcher[K, S]) ask(ctx context.Context, keys []K) (states map[K]S, err error) {
	defer func() {
		if value := recover(); value != nil {
			states, err = nil, panicked{w.opts.Panicked(value)}
		}
	}()
	return w.opts.Ask(ctx, keys)
}

// choose selects whom to ask for: all when there are many, those who are due
// when there are few.
func (w *Watcher[K, S]) choose(now time.Time) ([]*waiter[K, S], []K, context.Context, context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	everybody := len(w.waiters) > w.opts.Few
	w.pace.take(now, w.opts.Random())
	var asked []*waiter[K, S]
	seen := make(map[K]bool, len(w.waiters))
	keys := make([]K, 0, len(w.waiters))
	for one := range w.waiters {
		if !everybody && one.due.After(now.Add(gapMin/4)) {
			continue
		}
		asked = append(asked, one)
		if !seen[one.key] {
			seen[one.key] = true
			keys = append(keys, one.key)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	w.abandon = cancel
	if len(w.waiters) == 0 {
		cancel()
	}
	return asked, keys, ctx, cancel
}

// record notes how a question ended and reports whether its error is to be told
// to those who wait without an answer. Where others were answered, they are not made
// to wait for the next question.
func (w *Watcher[K, S]) record(err error, answered bool) (giveUp bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.abandon = nil
	if err == nil {
		w.failing = failure{}
		return false
	}
	now := time.Now()
	w.failing.again(now)
	if answered {
		w.failing.retry = time.Time{}
	}
	if w.opts.Final(err) || errors.As(err, new(panicked)) || now.Sub(w.failing.since) >= patience {
		w.failing = failure{}
		return true
	}
	return false
}

// deliver shows a waiter the state that was asked for at a time, and notes in
// found what that tells about its kind of operation.
func (w *Watcher[K, S]) deliver(one *waiter[K, S], state S, at time.Time, found map[string]finding, poll trace.SpanContext) {
	done, err := w.judge(one, state)
	elapsed, about := max(at.Sub(one.since), time.Millisecond), found[one.kind]
	switch {
	case err != nil:
	case !done:
		about.open = max(about.open, elapsed)
	case about.done == 0 || elapsed < about.done:
		about.done, about.late = elapsed, !one.asked
	}
	found[one.kind] = about
	if done || err != nil {
		w.finish(one, result[S]{state: state, err: err, poll: poll})
	}
}

// judge asks a waiter whether a state is the one that it waits for.
func (w *Watcher[K, S]) judge(one *waiter[K, S], state S) (done bool, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = w.opts.Panicked(value)
		}
	}()
	return one.done(state)
}

// finish ends one call of Wait.
func (w *Watcher[K, S]) finish(one *waiter[K, S], r result[S]) {
	w.mu.Lock()
	delete(w.waiters, one)
	w.mu.Unlock()
	one.result <- r
}

// reschedule learns from an answer, and decides when those who are not done are
// to be asked for again.
func (w *Watcher[K, S]) reschedule(asked []*waiter[K, S], found map[string]finding, start time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(found, "")
	for kind, about := range found {
		known := w.usual[kind]
		known.learn(about)
		w.usual[kind] = known
	}
	for _, one := range asked {
		elapsed := max(start.Sub(one.since), time.Millisecond)
		gap := w.usual[one.kind].next(elapsed) - elapsed
		one.due = one.since.Add(elapsed + time.Duration(float64(gap)*(1+0.05*w.opts.Random())))
		one.asked = true
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
