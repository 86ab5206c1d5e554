// Package inflight runs work that may hang, such as a read of a disk whose storage
// doesn't answer. While work for a key is under way, no other work for that key
// begins: whoever asks for it waits for that outcome, and leaves when its own context
// ends. So what hangs costs one goroutine, however often it is asked.
//
// Work that is left behind runs to its end. That suits work that only reads, or that
// may be repeated; work that changes something and has to be waited for needs more.
package inflight

import (
	"context"
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// Group is a set of keys of which each has at most one piece of work under way, with
// outcomes of type T. The zero value is ready; it must not be copied after its first use.
type Group[T any] struct{ calls singleflight.Group }

// PanicError is the error of work that panicked. The stack is in the log of the call that
// began the work.
type PanicError struct{ Value any }

func (p *PanicError) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Unwrap returns the error that the work panicked with, if it was one.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Do returns the outcome of work, or of the work for key that is under way already: it
// may have begun before the call, and so tell of a state before it. When ctx ends
// first, Do returns an error that wraps the cause, and the work goes on. Work must not
// end its goroutine by runtime.Goexit.
func (g *Group[T]) Do(ctx context.Context, key string, work func() (T, error)) (T, error) {
	value, _, err := g.join(ctx, key, work)
	return value, err
}

// DoAfter is Do for what must have been done after the call: work that is under way
// already is waited for, and its outcome isn't taken.
func (g *Group[T]) DoAfter(ctx context.Context, key string, work func() (T, error)) (T, error) {
	value, began, err := g.join(ctx, key, work)
	if !began && ctx.Err() == nil {
		// What runs now has begun after the end of what ran then.
		value, _, err = g.join(ctx, key, work)
	}
	return value, err
}

// join waits for the work for key. It reports whether that was begun by this call.
func (g *Group[T]) join(ctx context.Context, key string, work func() (T, error)) (value T, began bool, err error) {
	if ctx.Err() != nil {
		return value, false, context.Cause(ctx)
	}
	ours := make(chan struct{}, 1)
	outcome := g.calls.DoChan(key, func() (any, error) {
		ours <- struct{}{}
		return guarded(ctx, key, work)
	})
	select {
	case r := <-outcome:
		value, _ = r.Val.(T) // not one only if T is an interface, and the value nil
		return value, len(ours) > 0, r.Err
	case <-ctx.Done():
		return value, false, context.Cause(ctx)
	}
}

// guarded does the work and turns a panic into an error: nobody else would be told,
// and the process would end.
func guarded[T any](ctx context.Context, key string, work func() (T, error)) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p}
			logging.From(ctx).Error("panic in work that others may wait for",
				zap.String("work", key), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
		}
	}()
	return work()
}
