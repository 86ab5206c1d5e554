package filesystem

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// jobs runs work that must not be stopped half way. A caller whose context ends
// leaves its job behind; one that asks for the same again joins it.
type jobs struct {
	mu      sync.Mutex
	running map[string]*job
}

// errNeverBegan is for work that waited for its turn until its caller went away.
var errNeverBegan = errors.New("not begun")

type job struct {
	what string
	done chan struct{} // closed when err is set
	err  error
}

// Run does work on a device by path, which stays open meanwhile and so can't come
// to mean another disk. It is the only one that works on it, and runs to its end
// when ctx ends before; then Run returns an error that wraps ErrBusy. A later call
// for the same work, which what names, waits for it and gets its outcome.
func (f *FS) Run(ctx context.Context, path, what string, work func(context.Context) error) error {
	d, err := openDevice(path)
	if err != nil {
		return err
	}
	return f.jobs.onDevice(ctx, d, what, work)
}

// RunNamed is Run for work on something that has a name and need not be there.
func (f *FS) RunNamed(ctx context.Context, name, what string, work func(context.Context) error) error {
	return f.jobs.do(ctx, name, what, work)
}

// do runs work, unless the same work is already being done on key: then it
// waits for that and returns its outcome. Other work on key is waited for
// first. The context that work gets is never cancelled. When ctx ends before
// the work does, do returns an error that wraps ErrBusy and the cause.
func (j *jobs) do(ctx context.Context, key, what string, work func(context.Context) error) error {
	return j.doHolding(ctx, key, what, func() {}, work)
}

// onDevice is do for work on a device, which stays open until the work has
// ended. It closes the device in any case.
func (j *jobs) onDevice(ctx context.Context, d *handle, what string, work func(context.Context) error) error {
	return j.doHolding(ctx, "device "+numberString(d.number), what, d.close, work)
}

// doHolding is do, calling release once: when the work that it began has ended,
// or on return when it began none.
func (j *jobs) doHolding(ctx context.Context, key, what string, release func(), work func(context.Context) error) error {
	for {
		if ctx.Err() != nil {
			release()
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		current, started := j.start(ctx, key, what, release, work)
		if !started && !current.wait(ctx) {
			release()
			return fmt.Errorf("%w: %s has not ended: %w", ErrBusy, current.what, context.Cause(ctx))
		}
		if started {
			if !current.wait(ctx) {
				return fmt.Errorf("%w: %s has not ended: %w", ErrBusy, what, context.Cause(ctx))
			}
			return current.err
		}
		if current.what == what && !errors.Is(current.err, errNeverBegan) {
			release()
			return current.err
		}
	}
}

// wait returns false when ctx ends before the job.
func (c *job) wait(ctx context.Context) bool {
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// start returns the job that runs on key, after starting work when none does.
func (j *jobs) start(ctx context.Context, key, what string, release func(), work func(context.Context) error) (*job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if current, ok := j.running[key]; ok {
		return current, false
	}
	if j.running == nil {
		j.running = make(map[string]*job)
	}
	current := &job{what: what, done: make(chan struct{})}
	j.running[key] = current
	go func() {
		err := work(context.WithoutCancel(ctx))
		release()
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.running, key)
		current.err = err
		close(current.done)
	}()
	return current, true
}

// drain waits until no job runs or ctx ends.
func (j *jobs) drain(ctx context.Context) error {
	for {
		current := j.any()
		if current == nil {
			return nil
		}
		if !current.wait(ctx) {
			return fmt.Errorf("%w: %s: %w", ErrBusy, current.what, context.Cause(ctx))
		}
	}
}

func (j *jobs) any() *job {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, current := range j.running {
		return current
	}
	return nil
}

// abandonable runs read, which changes nothing but may hang in the kernel, and
// leaves it behind when ctx ends. There is one at a time for each path, whatever is
// read: whoever asks a device that hangs again and again leaves no more behind.
func abandonable[T any](ctx context.Context, f *FS, path string, read func() (T, error)) (T, error) {
	var zero T
	for {
		value, err := f.reads.DoAfter(ctx, path, func() (any, error) {
			value, err := read()
			return value, err
		})
		if err != nil {
			return zero, err
		}
		if value, ok := value.(T); ok {
			return value, nil
		}
		// Somebody else asked at the same time for something else.
	}
}
