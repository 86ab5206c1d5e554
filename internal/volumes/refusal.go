package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	pause "github.com/cinder-csi/cinder-csi/internal/backoff"
	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// How long a refused attachment or detachment is not tried again. It protects
// the cloud from callers that do not pause themselves, or that are many, and
// must not hold up those that do. The attacher pauses for 1 s after the first
// failure and doubles that up to 5 min; a fifth of it at every step means that
// its calls always get through, whatever the jitter on either side.
const (
	firstPause = 200 * time.Millisecond
	maxPause   = time.Minute
	// maxRefusals is more than the attacher's callers have in hand at a time
	// (100 by default); one takes less than 1 KiB.
	maxRefusals = 1000
)

// change is one thing that is done with one volume and one server.
type change struct {
	attach             bool
	volumeID, serverID string
}

func (c change) other() change {
	c.attach = !c.attach
	return c
}

// refusals are the changes that the cloud has refused lately.
type refusals struct{ *pause.Failures[change] }

func newRefusals() refusals {
	return refusals{pause.New[change](pause.Options{First: firstPause, Max: maxPause, Size: maxRefusals})}
}

// guard makes a change unless it was refused a moment ago, in which case it
// returns the same error again. What is wanted now is the opposite of what was
// wanted before: a refusal of that is forgotten. A detachment that succeeded
// may have been what others were waiting for, be it the volume or room on the
// server.
func (r refusals) guard(ctx context.Context, c change, do func() error) error {
	r.Forget(c.other())
	if left, err := r.Check(c); err != nil {
		log(ctx, c.volumeID).Debug("refused a moment ago", zap.String("server", c.serverID), zap.Duration("pause", left))
		return fmt.Errorf("%w (not asked again for another %v)", err, left.Round(time.Millisecond))
	}
	err := do()
	switch {
	case err == nil && !c.attach:
		r.ForgetAll(func(o change) bool { return o.volumeID == c.volumeID || o.serverID == c.serverID })
	case err == nil:
		r.Forget(c)
	case refused(err):
		r.Fail(c, err)
	}
	return err
}

// refused reports whether the cloud has said no, rather than not yet or nothing
// at all. Whatever may be going on has to be looked at again at once.
func refused(err error) bool {
	for _, open := range []error{
		context.Canceled, context.DeadlineExceeded, ErrBusy, ErrUnfinished, cloud.ErrUnavailable, cloud.ErrUnauthorized,
	} {
		if errors.Is(err, open) {
			return false
		}
	}
	return !cloud.Uncertain(err)
}
