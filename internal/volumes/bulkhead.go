package volumes

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// firstPatience is for how long the first of the calls at a bulkhead waits though
	// nothing is finished: somebody has to notice that things go on.
	firstPatience = 20 * time.Second
	// crowd is how many calls may be at work before they get impatient with those that
	// hang. The chart gives the attacher 50 workers.
	crowd         = 25
	crowdPatience = 3 * time.Second
	// longest is for how long any call waits at a bulkhead.
	longest = 90 * time.Second
	// forgetAfter is how long after the last call a bulkhead is known to be stuck.
	forgetAfter = 10 * time.Minute
)

// bulkheads keep what hangs, one server or one volume, from taking up all callers:
// as long as calls are finished there, others wait for their turn; when nothing was
// finished for stuckAfter, all but the first give up and those that come are refused,
// so that the caller pauses before it asks again. That is sooner when there are many.
type bulkheads struct {
	what string
	// room is how many calls there may be at one bulkhead; 0: any number.
	room int
	// stuckAfter is for how long nothing may have been finished.
	stuckAfter time.Duration

	mu    sync.Mutex
	byKey map[string]*bulkhead
	// inside is how many calls there are at all of them.
	inside int
}

type bulkhead struct {
	// visits are the calls, in the order in which they came.
	visits []*visit
	// progress is when something was finished last, or there was nothing to do.
	progress time.Time
}

// visit is one call at a bulkhead.
type visit struct {
	of     *bulkheads
	key    string
	at     *bulkhead
	since  time.Time
	cancel context.CancelFunc
	timer  *time.Timer
}

// enter returns a context that ends when the call is not to wait any longer. It
// returns ErrBusy where the call is not to begin. leave has to be called.
func (b *bulkheads) enter(ctx context.Context, key string) (context.Context, *visit, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.forget(now)
	at := b.byKey[key]
	if at == nil {
		at = &bulkhead{progress: now}
		b.byKey[key] = at
	}
	idle := now.Sub(at.progress)
	switch {
	case len(at.visits) == 0:
	case idle >= b.patience():
		return nil, nil, fmt.Errorf("%s %s: %w, and nothing was finished for %v", b.what, key, ErrBusy, idle.Round(time.Second))
	case b.room > 0 && len(at.visits) >= b.room:
		return nil, nil, fmt.Errorf("%s %s: %w, and %d others wait", b.what, key, ErrBusy, len(at.visits)-1)
	}
	limited, cancel := context.WithCancel(ctx)
	v := &visit{of: b, key: key, at: at, since: now, cancel: cancel}
	v.timer = time.AfterFunc(crowdPatience, v.check)
	at.visits = append(at.visits, v)
	b.inside++
	return limited, v, nil
}

// patience is for how long calls wait though nothing is finished. b.mu is held.
func (b *bulkheads) patience() time.Duration {
	if b.inside > crowd {
		return min(crowdPatience, b.stuckAfter)
	}
	return b.stuckAfter
}

// forget drops bulkheads that nobody came to for long. b.mu is held.
func (b *bulkheads) forget(now time.Time) {
	if b.byKey == nil {
		b.byKey = make(map[string]*bulkhead)
	}
	for key, at := range b.byKey {
		if len(at.visits) == 0 && now.Sub(at.progress) > forgetAfter {
			delete(b.byKey, key)
		}
	}
}

// check ends the call when it is not to wait any longer.
func (v *visit) check() {
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	if !slices.Contains(v.at.visits, v) {
		return
	}
	deadline := v.at.progress.Add(v.of.patience())
	if v.at.visits[0] == v {
		deadline = later(v.since, v.at.progress).Add(firstPatience)
	}
	if left := min(time.Until(deadline), time.Until(v.since.Add(longest))); left > 0 {
		v.timer.Reset(min(left, time.Second)) // there may be more calls by then
		return
	}
	v.cancel()
}

// progress tells that something was finished.
func (v *visit) progress() {
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	v.at.progress = time.Now()
}

// leave ends the visit.
func (v *visit) leave() {
	v.timer.Stop()
	v.cancel()
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	v.of.inside--
	v.at.visits = slices.DeleteFunc(v.at.visits, func(o *visit) bool { return o == v })
	if len(v.at.visits) == 0 && time.Since(v.at.progress) < v.of.stuckAfter {
		delete(v.of.byKey, v.key)
	}
}

// explain returns the error of a call that has waited with the context limited. Where
// the bulkhead has ended that, and not the caller, the error makes the caller ask
// again, and doesn't look like the end of the caller's own context.
func (v *visit) explain(ctx, limited context.Context, err error) error {
	if err == nil || limited.Err() == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%s %s: %w: it has not finished what it was asked for, and others must not wait for that: %s", v.of.what, v.key, ErrUnfinished, err.Error())
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
