package openstack

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// cached is an answer of the cloud that changes rarely. It is asked for by one
// caller on behalf of all who want it at the same time, and kept for a while. A
// failure is never kept.
type cached[T any] struct {
	flight singleflight.Group

	mu    sync.Mutex
	value T
	until time.Time
}

// get returns the answer, at most life old. The question outlives the caller
// who happened to ask it, and ends with the session.
func (k *cached[T]) get(ctx context.Context, s *session, life time.Duration, ask func(context.Context) (T, error)) (T, error) {
	if value, ok := k.kept(); ok {
		return value, nil
	}
	done := k.flight.DoChan("", func() (any, error) {
		if value, ok := k.kept(); ok {
			return value, nil
		}
		lasting, cancel := s.lasting(ctx)
		defer cancel()
		value, err := ask(lasting)
		if err != nil {
			return value, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.value, k.until = value, time.Now().Add(life)
		return value, nil
	})
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

func (k *cached[T]) kept() (T, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.value, time.Now().Before(k.until)
}
