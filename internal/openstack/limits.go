package openstack

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
)

// limits hold the requests to one cloud back, Cinder's and Nova's together. What a
// reload changes about the way to the cloud leaves them as they are.
type limits struct {
	reads, writes *rate.Limiter
	metrics       *metrics
}

// newLimits returns nil where nothing is limited.
func newLimits(l Limits, m *metrics) *limits {
	if l.Reads <= 0 && l.Writes <= 0 {
		return nil
	}
	limiter := func(perSecond float64) *rate.Limiter {
		if perSecond <= 0 {
			return rate.NewLimiter(rate.Inf, 0)
		}
		return rate.NewLimiter(rate.Limit(perSecond), max(1, l.Burst))
	}
	return &limits{reads: limiter(l.Reads), writes: limiter(l.Writes), metrics: m}
}

// wait returns when a request may be sent, or an error when ctx ends before, or would.
func (l *limits) wait(ctx context.Context, read bool) error {
	if l == nil {
		return ctx.Err()
	}
	limiter, kind := l.writes, "write"
	if read {
		limiter, kind = l.reads, "read"
	}
	start := time.Now()
	err := limiter.Wait(ctx)
	l.metrics.waits.WithLabelValues(kind).Observe(time.Since(start).Seconds())
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: held back by the limit of requests to the cloud", context.DeadlineExceeded)
	}
	return err
}
