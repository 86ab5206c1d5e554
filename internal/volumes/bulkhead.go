package volumes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// minPatience is for how long any call waits at a bulkhead where nothing is
	// finished. It is more than an attachment takes.
	minPatience = 3 * time.Second
	// firstPatience is how many times as long the first call at a bulkhead waits:
	// somebody has to notice that things go on.
	firstPatience = 10
	// forgetAfter is how long a bulkhead is known to be stuck after the last call.
	forgetAfter = 10 * time.Minute
)

// bulkheads keep what hangs, one server or one volume, from taking up all callers: as
// long as calls are finished there, others wait for their turn. When nothing is, they
// give up, the sooner the more calls there are, and those that come are refused, so
// that the caller pauses before it asks again.
type bulkheads struct {
	kind string
	// advice tells an operator where to look into one that is stuck; nil: there is none.
	advice func(key string) string
	// alone is for how long one call alone waits where nothing is finished; n calls, at
	// all of these bulkheads together, wait for an n-th of it. That leaves workers to
	// others, be they 50, as the chart has it, or 10.
	alone time.Duration
	// most is how many calls there may be at one bulkhead; 0: any number.
	most int

	mu    sync.Mutex
	byKey map[string]*bulkhead
	// calls is how many calls there are at all of them.
	calls int
}

type bulkhead struct {
	// visits are the calls, in the order in which they came.
	visits []*visit
	// progress is when something was finished last, or the first call came.
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
	left   bool
	// apart: the call waits for what happens elsewhere, and is none of the visits.
	apart bool
}

// enter returns a context that ends when the call is not to wait any longer. It
// returns ErrBusy where the call is not to begin. leave has to be called.
func (b *bulkheads) enter(ctx context.Context, key string) (context.Context, *visit, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.byKey, func(_ string, at *bulkhead) bool {
		return len(at.visits) == 0 && time.Since(at.progress) > forgetAfter
	})
	at := b.byKey[key]
	if at == nil {
		at = &bulkhead{progress: time.Now()}
		if b.byKey == nil {
			b.byKey = make(map[string]*bulkhead)
		}
		b.byKey[key] = at
	}
	idle := time.Since(at.progress)
	switch {
	case len(at.visits) == 0:
	case idle >= b.patience():
		return nil, nil, fmt.Errorf("%s %s: %w, and nothing was finished since %s%s", b.kind, key, ErrBusy, at.progress.UTC().Format(time.RFC3339), b.advise(key))
	case b.most > 0 && len(at.visits) >= b.most:
		return nil, nil, fmt.Errorf("%s %s: %w, and %d others wait", b.kind, key, ErrBusy, len(at.visits)-1)
	}
	limited, cancel := context.WithCancel(ctx)
	v := &visit{of: b, key: key, at: at, since: time.Now(), cancel: cancel}
	v.timer = time.AfterFunc(time.Second, v.check)
	at.visits = append(at.visits, v)
	b.calls++
	return limited, v, nil
}

// advise returns the advice for a text.
func (b *bulkheads) advise(key string) string {
	if b.advice == nil {
		return ""
	}
	return ": " + b.advice(key)
}

// patience is for how long a call waits though nothing is finished. b.mu is held.
func (b *bulkheads) patience() time.Duration {
	return max(b.alone/time.Duration(max(b.calls, 1)), minPatience)
}

// check ends the call when it is not to wait any longer. There may be more calls in a
// second, and less patience.
func (v *visit) check() {
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	if v.left {
		return
	}
	waited := time.Since(v.at.progress)
	if v.apart || v.at.visits[0] == v {
		waited = min(waited, time.Since(v.since)) / firstPatience
	}
	if waited >= v.of.patience() {
		v.cancel()
		return
	}
	v.timer.Reset(time.Second)
}

// stepAside takes the call out of the others' way while it waits for what happens elsewhere:
// that nothing is finished here tells nothing then. It waits for as long as the first call
// does. back ends that.
func (v *visit) stepAside() (back func()) {
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	v.apart = true
	v.remove()
	return func() {
		v.of.mu.Lock()
		defer v.of.mu.Unlock()
		v.apart = false
		if at := v.of.byKey[v.key]; at != nil {
			v.at = at
		} else {
			v.of.byKey[v.key] = v.at
		}
		v.at.visits = append(v.at.visits, v)
		if len(v.at.visits) == 1 {
			v.at.progress = time.Now() // as where the first call came
		}
	}
}

// remove takes the call from the visits, and the bulkhead away if all is well there. mu is
// held.
func (v *visit) remove() {
	v.at.visits = slices.DeleteFunc(v.at.visits, func(o *visit) bool { return o == v })
	if len(v.at.visits) == 0 && time.Since(v.at.progress) < minPatience && v.of.byKey[v.key] == v.at {
		delete(v.of.byKey, v.key)
	}
}

// progress tells that something was finished.
func (v *visit) progress() {
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	v.at.progress = time.Now()
}

// leave ends the visit.
func (v *visit) leave() {
	v.cancel()
	v.of.mu.Lock()
	defer v.of.mu.Unlock()
	v.timer.Stop()
	v.left = true
	v.of.calls--
	v.remove()
}

// explain returns the error of a call that has waited with the context limited. Where
// the bulkhead has ended that, and not the caller, the error makes the caller ask
// again, and doesn't look like the end of the caller's own context.
func (v *visit) explain(ctx, limited context.Context, err error) error {
	if err == nil || limited.Err() == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%s %s: %w: it has not finished what it was asked for, and others must not wait for that%s: %s",
		v.of.kind, v.key, ErrUnfinished, v.of.advise(v.key), err.Error())
}
