package openstack

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// begin asks a question of the cloud once for all callers who ask it at the same
// time. The question outlives the caller who happened to ask first, and ends with
// closing. A panic of ask is an error for those callers, not the end of the process:
// singleflight would repeat it in a goroutine that nobody can recover in.
func begin[T any](ctx, closing context.Context, flight *singleflight.Group, ask func(context.Context) (T, error)) <-chan singleflight.Result {
	return flight.DoChan("", func() (answer any, err error) {
		lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(closing, cancel)()
		defer func() {
			if p := recover(); p != nil {
				logging.From(ctx).Error("panic", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
				err = fmt.Errorf("a question to the cloud ended unexpectedly: %v", p)
			}
		}()
		return ask(lasting)
	})
}

// await returns the answer to a question that was begun, or the error of ctx.
func await[T any](ctx context.Context, done <-chan singleflight.Result) (T, error) {
	var none T
	select {
	case result := <-done:
		if result.Err != nil {
			return none, result.Err
		}
		return result.Val.(T), nil
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// forever is the life of an answer that stays as it is.
const forever = 100 * 365 * 24 * time.Hour

// cached is an answer of the cloud that changes rarely. A failure is never kept.
type cached[T any] struct {
	flight singleflight.Group

	mu    sync.Mutex
	value T
	until time.Time
}

// get returns the answer, at most life old.
func (k *cached[T]) get(ctx, closing context.Context, life time.Duration, ask func(context.Context) (T, error)) (T, error) {
	if value, ok := k.valid(); ok {
		return value, nil
	}
	return await[T](ctx, begin(ctx, closing, &k.flight, func(ctx context.Context) (T, error) {
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
	}))
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
