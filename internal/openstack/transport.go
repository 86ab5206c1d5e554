package openstack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

const (
	// maxAnswer bounds the body of an answer: a page of 1000 volumes takes
	// 2 to 3 MiB.
	maxAnswer = 64 << 20
	// maxStrangerAnswer bounds it where a secret named the cloud, and maxUnprovenAnswer
	// until its credentials have proven good: a large catalog takes 300 KiB.
	maxUntrustedAnswer = 8 << 20
	maxUnprovenAnswer  = 1 << 20
	// valuesPerMiB bounds how many values of JSON there may be in such an answer, since
	// the smallest takes 100 times its size when it is read. A catalog has some 5,000
	// in 300 KiB.
	valuesPerMiB = 30000
	// maxIdle connections are kept for each endpoint, so that 100 calls at a
	// time reuse theirs.
	maxIdle = 100
)

// newTransport returns the connections to a cloud, shared by all its endpoints.
func newTransport(tlsConfig *tls.Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    5 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxIdleConns:           4 * maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 1 << 20,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// exchange sends one request once and reads the whole answer into memory, so
// that a broken one is known before anybody acts on it.
type exchange struct {
	base    http.RoundTripper
	service string
	conn    *connection
}

// bound returns how large an answer may be.
func (x *exchange) bound() int {
	switch {
	case !x.conn.cfg.untrusted:
		return maxAnswer
	case x.service == keystoneName || !x.conn.connected.Load():
		return maxUnprovenAnswer
	}
	return maxUntrustedAnswer
}

// sendError is a request without a usable answer.
type sendError struct {
	err error
	// sent tells that the request may have reached the cloud.
	sent bool
}

func (e *sendError) Error() string { return e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// RoundTrip fails with a sendError. A request that changes something is seen
// through to its answer, or to its timeout, even if the caller gives up.
func (x *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	limit := x.conn.opts.WriteTimeout
	switch {
	case x.service == keystoneName:
		limit = x.conn.opts.LoginTimeout
	case reads(req.Method):
		limit = x.conn.opts.ReadTimeout
	}
	if x.conn.cfg.untrusted && !x.conn.opts.SecretAddresses.permitsHost(req.URL, x.conn.cfg.AuthURL) {
		return nil, &sendError{err: fmt.Errorf("%w: --secret-auth-urls does not allow its host %s", cloud.ErrForbidden, req.URL.Hostname())}
	}
	seen := x.conn.observe(req, x.service)
	ctx := req.Context()
	if !reads(req.Method) && x.service != keystoneName {
		// The cloud does not stop when its client goes away. If this call did,
		// the next one about the same volume would be under way beside what is
		// left of it: a second volume of one name, or an attachment that comes
		// after the detachment.
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { sent.Store(true) },
	})
	resp, err := x.base.RoundTrip(req.WithContext(ctx))
	if err == nil {
		err = absorb(resp, reads(req.Method), x.bound(), x.conn.cfg.untrusted)
	}
	switch ended := req.Context().Err(); {
	case err == nil:
	case ended == nil:
		err = ownTimeout(ctx, err, limit)
	case !errors.Is(err, ended):
		err = fmt.Errorf("%w: %w", ended, ownTimeout(ctx, err, limit))
	}
	seen.end(resp, err, sent.Load())
	if err != nil {
		return nil, &sendError{err: err, sent: sent.Load()}
	}
	return resp, nil
}

// ownTimeout makes a timeout of this package, of the dialer or of net/http look
// unlike the caller's own, which alone is a context.DeadlineExceeded.
func ownTimeout(ctx context.Context, err error, limit time.Duration) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("no answer within %s", limit)
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New(err.Error())
	}
	return err
}

// absorb replaces the body by a copy in memory. The answer to a read has to be
// whole. One to a write keeps its status when the body is broken, and the body
// ends in the error.
func absorb(resp *http.Response, read bool, limit int, untrusted bool) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err == nil && len(body) > limit {
		err = fmt.Errorf("%w than %d bytes", errTooLarge, limit)
	}
	if err == nil && untrusted && bytes.Count(body, []byte{','})+bytes.Count(body, []byte{'['})+bytes.Count(body, []byte{'{'}) > valuesPerMiB*(limit>>20) {
		err = errors.New("the answer has more values than any of OpenStack")
	}
	success := resp.StatusCode >= 200 && resp.StatusCode < 300
	if err == nil && read && success && !json.Valid(body) {
		err = errNotJSON
	}
	if err != nil && (untrusted || read && success) {
		return fmt.Errorf("HTTP %d: %w", resp.StatusCode, err)
	}
	resp.Body = held(body, err)
	return nil
}

var (
	errNotJSON  = errors.New("the answer is not JSON, or only a part of it")
	errTooLarge = errors.New("the answer is larger")
)

type brokenBody struct{ err error }

func (b *brokenBody) Read([]byte) (int, error) { return 0, b.err }

func reads(method string) bool {
	return method == http.MethodGet || method == http.MethodHead
}

// requestID is the id under which the cloud logs a request, empty where there is none that
// could be one.
func requestID(header http.Header) string {
	const most = 128
	id := cmp.Or(header.Get("X-Openstack-Request-Id"), header.Get("X-Compute-Request-Id"))
	if len(id) > most {
		return ""
	}
	return id
}
