package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// change sends a request that changes something, and follows it up: what the cloud has
// accepted is waited for. Where an error leaves open whether the cloud has acted, or why
// it refuses, afterRefusal reads the state of things and decides. again tells that the reason
// of the refusal, which is the error beside it, may end by itself: the request is sent
// again, after half a second at first and after four seconds later.
func change(ctx context.Context, send, accepted func() error, afterRefusal func(refusal error) (again bool, why error)) error {
	return retry(ctx, func() (bool, error) {
		err := send()
		switch {
		case err == nil:
			return false, accepted()
		case ctx.Err() != nil:
			return false, contextFirst(ctx, err)
		case !undecided(err):
			return false, err
		}
		return afterRefusal(err)
	})
}

// retry calls try until it says that it is not to be called again, or ctx ends, and
// returns its last error.
func retry(ctx context.Context, try func() (again bool, err error)) error {
	pauses := &backoff.ExponentialBackOff{InitialInterval: 500 * time.Millisecond, MaxInterval: 4 * time.Second, Multiplier: 2, RandomizationFactor: 0.2}
	pauses.Reset()
	for {
		again, err := try()
		if !again {
			return err
		}
		timer := time.NewTimer(pauses.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// within calls wait with a context that ends after limit. late tells that wait has failed
// because of the limit, and not because the caller's own context is over.
func within(ctx context.Context, limit time.Duration, wait func(context.Context) error) (late bool, err error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = wait(limited)
	return err != nil && ctx.Err() == nil && limited.Err() != nil, err
}

// settledVolume reads a volume after a request about it was refused, or its answer was
// lost, when nothing is going on with it any more: busy tells that something was. A
// volume that does not exist is nil.
func (s *Service) settledVolume(ctx context.Context, id string, refusal error) (v *cloud.Volume, busy bool, err error) {
	if v, err = ifExists(s.cloud.GetVolume(ctx, id)); err != nil {
		return nil, false, unfinished(errors.Join(refusal, err))
	}
	if v == nil || !v.Status.Transitional() {
		return v, false, nil
	}
	status := v.Status
	if v, err = s.waitVolume(ctx, id, operationOf(status), notTransitional); err != nil {
		return nil, true, fmt.Errorf("volume %s has status %s: %w", id, status, unfinished(err))
	}
	return v, true, nil
}

// operationOf names the operation that a status belongs to, for the watcher.
func operationOf(status cloud.VolumeStatus) string {
	switch status {
	case cloud.VolumeCreating, cloud.VolumeDownloading:
		return "create volume"
	case cloud.VolumeDetaching:
		return "detach volume"
	case cloud.VolumeExtending:
		return "extend volume"
	case cloud.VolumeRetyping:
		return "retype volume"
	}
	return "settle"
}

// notTransitional is satisfied when nothing is going on with a volume, or it is gone.
func notTransitional(v *cloud.Volume) (bool, error) {
	return v == nil || !v.Status.Transitional(), nil
}

// untilEnded is satisfied when a request that was accepted has come to its end: the volume is
// as it was to be, or gone; or it was seen in no transitional status after it was on its
// way, or without that three times, since an answer may be older than the request.
func untilEnded(reached func(*cloud.Volume) bool, way ...cloud.VolumeStatus) func(*cloud.Volume) (bool, error) {
	begun, still := false, 0
	return func(v *cloud.Volume) (bool, error) {
		switch {
		case v == nil, reached(v):
			return true, nil
		case v.Status.Transitional():
			begun = begun || slices.Contains(way, v.Status)
			return false, nil
		}
		still++
		return begun || still > 2, nil
	}
}

// unfinished turns an error that came after the cloud had accepted a request
// into one that makes the caller ask again. How ctx ended is told unchanged.
func unfinished(err error) error {
	if errors.Is(err, ErrUnfinished) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnfinished, err)
}

// final reports errors that asking again does not cure.
func final(err error) bool {
	return errors.Is(err, cloud.ErrUnauthorized) || errors.Is(err, cloud.ErrForbidden) || errors.Is(err, cloud.ErrUnsupported)
}

// contextFirst returns an error that says first that the caller's context is over, and
// then what else went wrong: nobody is to act on that any more.
func contextFirst(ctx context.Context, err error) error {
	if errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// noAnswer reports whether the cloud has given no answer to a request, or none that says
// what it has done.
func noAnswer(err error) bool { return cloud.Uncertain(err) || errors.Is(err, cloud.ErrUnavailable) }

// undecided reports whether the state of things has to be read before one can
// say what err means: the cloud may have acted, or refuses without a reason
// that stands by itself.
func undecided(err error) bool {
	return noAnswer(err) || errors.Is(err, cloud.ErrInvalid) || errors.Is(err, cloud.ErrConflict) || errors.Is(err, cloud.ErrNotFound)
}

// needsOperator reports whether a status is one that only an operator can mend.
func needsOperator(s cloud.VolumeStatus) bool { return strings.HasPrefix(string(s), "error") }
