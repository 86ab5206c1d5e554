package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// callTimeout bounds one attempt of a CSI call; the sidecars' default
	// for slow clouds is 3 minutes, the development cloud is quick.
	callTimeout = 30 * time.Second
	// firstPause and maxPause bound the growing pause between attempts. The
	// sidecars begin with a second: a demo has less patience.
	firstPause = 50 * time.Millisecond
	maxPause   = time.Second
)

// repeatable reports whether the sidecars repeat a call that ended with err,
// because it is not known, or not yet decided, how it ends. Canceled counts
// as such while the caller itself has not given up: a plugin that stops
// cancels its calls.
func repeatable(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.Canceled:
		return true
	default:
		return false
	}
}

// patience is how a call is repeated.
type patience struct {
	attempt     time.Duration
	first, most time.Duration
	// repeats is told of every attempt that is going to be repeated.
	repeats func(method string, err error)
}

// usual is the patience of the demo.
func usual(repeats func(string, error)) patience {
	return patience{attempt: callTimeout, first: firstPause, most: maxPause, repeats: repeats}
}

// repeat makes a CSI call until it succeeds, fails for good, or ctx ends. The
// error tells the method and the last answer.
func repeat[T any](ctx context.Context, p patience, method string, call func(context.Context) (T, error)) (T, error) {
	var none T
	pause := p.first
	for attempts := 1; ; attempts++ {
		answer, err := attempt(ctx, p.attempt, call)
		if err == nil {
			return answer, nil
		}
		if ctx.Err() == nil && !repeatable(err) {
			return none, fmt.Errorf("%s: %w", method, err)
		}
		if p.repeats != nil && ctx.Err() == nil {
			p.repeats(method, err)
		}
		select {
		case <-ctx.Done():
			return none, gaveUp(ctx, method, attempts, err)
		case <-time.After(pause):
		}
		pause = min(2*pause, p.most)
	}
}

func attempt[T any](ctx context.Context, limit time.Duration, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return call(ctx)
}

// gaveUp tells why a call is not repeated any more.
func gaveUp(ctx context.Context, method string, attempts int, last error) error {
	cause := context.Cause(ctx)
	var failure *RunError
	if errors.As(cause, &failure) {
		return cause // a program has died for good: that is the reason
	}
	if !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", method, cause)
	}
	return fmt.Errorf("%s: no success in time, %d attempts: %w", method, attempts, last)
}
