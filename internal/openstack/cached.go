package openstack

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/cinder-csi/cinder-csi/internal/inflight"
)

// shared asks a question of the cloud once for all callers who ask it at the same time.
// The question outlives the caller who happened to ask first, and ends with closing.
func shared[T any](ctx, closing context.Context, group *inflight.Group[T], ask func(context.Context) (T, error)) (T, error) {
	return group.Do(ctx, "question to the cloud", func() (T, error) {
		lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(closing, cancel)()
		return ask(lasting)
	})
}

// forever is the life of an answer that stays as it is.
const forever = 100 * 365 * 24 * time.Hour

// cached is an answer of the cloud that changes rarely. A failure is never kept.
type cached[T any] struct {
	questions inflight.Group[T]

	mu    sync.Mutex
	value T
	until time.Time
}

// get returns the answer, at most life old.
func (k *cached[T]) get(ctx, closing context.Context, life time.Duration, ask func(context.Context) (T, error)) (T, error) {
	if value, ok := k.valid(); ok {
		return value, nil
	}
	return shared(ctx, closing, &k.questions, func(ctx context.Context) (T, error) {
		if value, ok := k.valid(); ok {
			return value, nil
		}
		value, err := ask(ctx)
		if err != nil {
			return value, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.value, k.until = value, time.Now().Add(life)
		return value, nil
	})
}

// last returns the newest answer, however old, zero where there was none.
func (k *cached[T]) last() T {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.value
}

func (k *cached[T]) valid() (T, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.value, time.Now().Before(k.until)
}

// failure remembers why an attempt failed, so that the next one is not made by the
// next call but after a pause. Pauses double from first to most, each 20 % shorter or
// longer by chance.
type failure struct {
	first, most time.Duration

	mu     sync.Mutex
	err    error
	until  time.Time
	pauses *backoff.ExponentialBackOff
}

// remembered returns the error of the last attempt until it is time for the next.
func (f *failure) remembered() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if left := time.Until(f.until); f.err != nil && left > 0 {
		return fmt.Errorf("%w (the next attempt is in %s)", f.err, max(left.Round(time.Second), time.Second))
	}
	return nil
}

// last returns the error of the last attempt, nil where there was none that failed.
func (f *failure) last() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// note remembers an error, or forgets the last one for nil.
func (f *failure) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err = err; err == nil {
		f.pauses = nil
		return
	}
	if f.pauses == nil {
		f.pauses = &backoff.ExponentialBackOff{InitialInterval: f.first, MaxInterval: f.most, Multiplier: 2, RandomizationFactor: 0.2}
		f.pauses.Reset()
	}
	f.until = time.Now().Add(f.pauses.NextBackOff())
}
