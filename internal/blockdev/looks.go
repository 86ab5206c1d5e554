package blockdev

import (
	"context"
	"time"
)

// lookPause is how long Wait lets pass between the first two times that it has the
// kernel look at something again; each later pause is twice as long.
const lookPause = time.Second

// looks has the kernel look at something again, now and then.
type looks struct {
	look  func(context.Context) // nil until there is something to look at
	pause time.Duration
	next  *time.Timer
	done  chan struct{} // closed when a look has ended; nil when none is under way
}

func newLooks() *looks {
	l := &looks{pause: lookPause, next: time.NewTimer(0)}
	l.next.Stop()
	return l
}

// begin begins with a first look, which is due at once. When it has begun already,
// it goes on with this one.
func (l *looks) begin(look func(context.Context)) {
	if l.look == nil && look != nil {
		l.next.Reset(0)
	}
	l.look = look
}

// due receives when it is time for run.
func (l *looks) due() <-chan time.Time { return l.next.C }

// run looks in the background, unless the last look still hangs: what doesn't
// answer costs one goroutine.
func (l *looks) run(ctx context.Context) {
	l.next.Reset(l.pause)
	l.pause *= 2
	if l.done != nil {
		return
	}
	done, look := make(chan struct{}), l.look
	l.done = done
	go func() {
		defer close(done)
		look(ctx)
	}()
}

func (l *looks) stop() { l.next.Stop() }
