package filesystem

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// turns bounds how many tools of a kind run at once. Who has a turn waits for
// nothing that needs another one, and for no job.
type turns chan struct{}

// turnTime is how long a turn lasts at most, though its tool goes on: one whose
// disk has died never ends, and must not keep all other volumes waiting. mkfs takes
// seconds, and few checks that long.
const turnTime = 5 * time.Minute

// take waits for a turn and returns the function that gives it back. When ctx
// ends before, the error wraps errNeverBegan: a tool that hasn't begun when its
// call ends never does, since by the time of its turn the disk may be used
// elsewhere. One that has begun keeps its turn to its end.
func (t turns) take(ctx context.Context) (giveBack func(), err error) {
	select {
	case t <- struct{}{}:
		if ctx.Err() == nil {
			once := sync.OnceFunc(func() { <-t })
			limit := time.AfterFunc(turnTime, once)
			return func() { limit.Stop(); once() }, nil
		}
		<-t
	case <-ctx.Done():
	}
	return nil, fmt.Errorf("%w: too many others run: %w", errNeverBegan, context.Cause(ctx))
}
