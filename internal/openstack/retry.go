package openstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

const (
	// maxFailures is how often one request may fail before the caller is told.
	// With the pauses below that is within a second: a hiccup is bridged, an
	// outage is reported.
	maxFailures = 4
	firstPause  = 100 * time.Millisecond
	// firstThrottle and maxThrottle bound the pauses after a 429 that does not
	// say how long to wait.
	firstThrottle = time.Second
	maxThrottle   = 30 * time.Second
	// patience bounds the waiting for a throttled cloud where the caller has
	// no deadline.
	patience = 2 * time.Minute
)

// retrier repeats what is safe to repeat:
//
//   - whatever the cloud has refused with 429, or 413 and a time to wait, as it
//     was not acted upon;
//   - whatever never left this machine;
//   - GET after a broken connection, a broken answer, or 5xx.
//
// POST is never repeated once it may have been sent: the cloud may have acted.
// Neither is DELETE, although it would end in the same state: Cinder and Nova
// answer 400 to the second one while the first is still at work, which would
// hide from the caller that it was accepted. The caller reads the state.
type retrier struct {
	next http.RoundTripper
	// repeatable marks an endpoint whose POST may be repeated as well.
	repeatable bool
	// limits hold requests back; nil for none.
	limits *limits
}

// RoundTrip returns the last answer, or the last error if there was none.
func (r *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = firstPause
	throttle := backoff.NewExponentialBackOff()
	throttle.InitialInterval, throttle.MaxInterval = firstThrottle, maxThrottle
	failures := 0
	resp, err := backoff.Retry(ctx, func() (*http.Response, error) {
		resp, err := r.once(req)
		if err != nil {
			failures++
			if failures >= maxFailures || !r.again(req, err) {
				return nil, backoff.Permanent(err)
			}
			return nil, err
		}
		if wait, ok := throttled(resp); ok {
			if wait == 0 {
				wait = throttle.NextBackOff()
			}
			if late(ctx, wait) {
				return resp, backoff.Permanent(errAnswered)
			}
			return resp, &backoff.RetryAfterError{Duration: wait}
		}
		if failed(resp) && (reads(req.Method) || r.repeatable) {
			failures++
			if failures < maxFailures {
				return resp, errAnswered
			}
		}
		return resp, nil
	},
		backoff.WithBackOff(pauses),
		backoff.WithMaxElapsedTime(patience),
		backoff.WithNotify(func(_ error, wait time.Duration) {
			logging.From(ctx).Debug("openstack request is repeated", zap.String("httpMethod", req.Method),
				zap.String("path", req.URL.Path), zap.Duration("after", wait))
		}),
	)
	switch {
	case err == nil, resp != nil && ctx.Err() == nil:
		return resp, nil
	case resp != nil:
		return nil, ctx.Err()
	}
	return nil, err
}

// errAnswered stands for an answer that is worth another try; the answer itself
// travels beside it.
var errAnswered = errors.New("answered")

// once sends the request when the limits let it, and never for a caller who has given
// up: one that changes something would be seen through.
func (r *retrier) once(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if err := r.limits.wait(ctx, reads(req.Method)); err != nil {
		return nil, &sendError{err: err}
	}
	attempt := req.Clone(ctx)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, &sendError{err: err}
		}
		attempt.Body = body
	}
	return r.next.RoundTrip(attempt)
}

// again reports whether a request that got no answer may be sent again.
func (r *retrier) again(req *http.Request, err error) bool {
	if req.Context().Err() != nil || tlsFailure(err) {
		return false
	}
	for _, final := range []error{context.DeadlineExceeded, errTooLarge, cloud.ErrForbidden} {
		if errors.Is(err, final) {
			return false
		}
	}
	var send *sendError
	sent := !errors.As(err, &send) || send.sent
	return !sent || reads(req.Method) || r.repeatable
}

// failed reports whether the cloud had a problem of its own.
func failed(resp *http.Response) bool {
	return resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented
}

// late reports whether waiting would outlast the caller.
func late(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < wait
}

// throttled reports whether the cloud asks to come back later, and after how
// long; 0 where it does not say. A 413 without a time is an exhausted quota.
func throttled(resp *http.Response) (time.Duration, bool) {
	wait := retryAfter(resp.Header, peek(resp))
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return wait, true
	case http.StatusRequestEntityTooLarge:
		return wait, wait > 0
	}
	return 0, false
}

// peek returns the body of an answer that may say how long to wait.
func peek(resp *http.Response) []byte {
	if resp.StatusCode != http.StatusRequestEntityTooLarge && resp.StatusCode != http.StatusTooManyRequests {
		return nil
	}
	return bodyOf(resp)
}

// bodyOf returns the body of an answer, as far as it came, and leaves it as it was.
func bodyOf(resp *http.Response) []byte {
	body, err := io.ReadAll(resp.Body)
	resp.Body = held(body, err)
	return body
}

// held returns a body that is in memory, and ends in an error where it is not whole.
func held(body []byte, err error) io.ReadCloser {
	if err != nil {
		return io.NopCloser(io.MultiReader(bytes.NewReader(body), &brokenBody{err}))
	}
	return io.NopCloser(bytes.NewReader(body))
}

// retryAfter reads the time to wait from the header, as seconds or as a date,
// or else from the retryAfter that Cinder and Nova put into the body.
func retryAfter(header http.Header, body []byte) time.Duration {
	value := header.Get("Retry-After")
	if value == "" {
		var faults map[string]struct {
			RetryAfter json.Number `json:"retryAfter"`
		}
		if json.Unmarshal(body, &faults) == nil {
			for _, fault := range faults {
				value = fault.RetryAfter.String()
			}
		}
	}
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 {
		return time.Duration(min(seconds, patience.Seconds()) * float64(time.Second))
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
