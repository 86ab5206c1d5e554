// Package openstack talks to an OpenStack cloud: it reads cloud.conf and
// clouds.yaml, authenticates, negotiates microversions, and offers Cinder and
// Nova as the interfaces of package cloud. Each method is as few requests as
// the cloud allows, nothing here waits for a state, and every error says
// whether the cloud may have acted all the same.
package openstack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// Options are what New takes beside the configuration of the cloud. The
// zero value is fit for use.
type Options struct {
	// Version is the driver's, for the user agent.
	Version string
	// UserAgent is put before the driver's own name.
	UserAgent []string
	// IgnoreVolumeMicroversion is BlockStorage's key of that name.
	IgnoreVolumeMicroversion bool
	// Registerer takes the metrics, until Close; clients of different clouds may share one.
	// Nil leaves them out. Cloud is the name of the cloud there, "default" where it is empty.
	Registerer prometheus.Registerer
	Cloud      string
	// Limits hold requests back before they are sent.
	Limits Limits
	// SecretAddresses are where the credentials of secrets may lead beside the host of
	// their own auth-url.
	SecretAddresses Addresses
	// LoginTimeout bounds one attempt to connect, and the renewal of a token, 2 min where
	// it is 0. Callers wait for it no longer than their own time.
	LoginTimeout time.Duration
	// ReadTimeout bounds one GET, 30 s where it is 0.
	ReadTimeout time.Duration
	// WriteTimeout bounds one other request, 90 s where it is 0: Nova itself
	// gives up on an attachment after 60 s.
	WriteTimeout time.Duration
}

// Limits bound the requests per second to Cinder and Nova together, and reads and
// writes apart; 0 is no limit. Burst requests may come at once.
type Limits struct {
	Reads, Writes float64
	Burst         int
}

// Client is one cloud. It is safe for concurrent use.
type Client struct {
	opts    Options
	metrics *metrics
	limits  *limits
	// collector is nil without Options.Registerer.
	collector *collector

	current atomic.Pointer[connection]
	mu      sync.Mutex
	closed  bool
	// unreadable are the entries of lists that could not be read and are in the log.
	unreadable map[string]bool
}

var _ cloud.Cloud = (*Client)(nil)

// New checks the configuration of a cloud, and sends nothing: Ready has to return nil
// before the client can be used. Its error is one line that names the file, the section
// and the key that is at fault.
func New(cfg CloudConfig, opts Options) (*Client, error) {
	opts.LoginTimeout = cmp.Or(opts.LoginTimeout, 2*time.Minute)
	opts.ReadTimeout = cmp.Or(opts.ReadTimeout, 30*time.Second)
	opts.WriteTimeout = cmp.Or(opts.WriteTimeout, 90*time.Second)
	opts.Cloud = cmp.Or(opts.Cloud, "default")
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, err
	}
	c := &Client{opts: opts, metrics: m, limits: newLimits(opts.Limits, m), unreadable: map[string]bool{}}
	first, err := newConnection(cfg, opts, c.limits, m)
	if err != nil {
		return nil, err
	}
	c.current.Store(first)
	if err := c.collect(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Ready authenticates and finds Cinder and Nova, unless that is done: once for all
// callers who need it at the same time, within Options.LoginTimeout. After a failure the
// next attempt is made after a pause, which
// doubles from 1 s to 30 s, and from 30 s to 5 min where Keystone refused the
// credentials; until then Ready returns that failure. Its error is one line that names
// the file and section and the address that is at fault; it wraps
// cloud.ErrUnauthorized where the credentials are refused.
func (c *Client) Ready(ctx context.Context) error { return c.now().ready(ctx) }

// ErrConnecting is the state of a client before the end of its first attempt.
var ErrConnecting = fmt.Errorf("%w: the driver is connecting to it for the first time", cloud.ErrUnavailable)

// State returns nil when the client is ready, else why not, without asking anybody.
func (c *Client) State() error {
	now := c.now()
	switch last := now.down.last(); {
	case now.connected.Load():
		return nil
	case last != nil:
		return last
	}
	return ErrConnecting
}

// Refused reports whether Keystone refused the credentials when they were last sent.
func (c *Client) Refused() bool { return c.now().session.refused.remembered() != nil }

// Connect is New and Ready.
func Connect(ctx context.Context, cfg CloudConfig, opts Options) (*Client, error) {
	c, err := New(cfg, opts)
	if err != nil {
		return nil, err
	}
	if err := c.Ready(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ErrOtherProject tells that a changed configuration leads to another project.
var ErrOtherProject = errors.New("they lead to another project")

// Reconnect takes up a changed configuration of the cloud. A client that was ready goes
// the new way only when that works and leads to the same project: volumes of another
// one would all pass for deleted. Requests under way end as they would have. After an
// error all is as before.
func (c *Client) Reconnect(ctx context.Context, cfg CloudConfig) error {
	next, err := newConnection(cfg, c.opts, c.limits, c.metrics)
	if err != nil {
		return err
	}
	if c.now().connected.Load() {
		if err := next.ready(ctx); err != nil {
			next.shut()
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	switch {
	case c.closed:
		next.shut()
		return nil
	case !now.connected.Load():
	case !next.connected.Load():
		next.shut()
		return fmt.Errorf("%w: the cloud was connected to meanwhile", cloud.ErrUnavailable)
	case now.projectKey() != next.projectKey():
		next.shut()
		return fmt.Errorf("%w: %s instead of %s", ErrOtherProject, next.projectKey(), now.projectKey())
	}
	c.current.Swap(next).shut()
	return nil
}

// now returns the present way to the cloud.
func (c *Client) now() *connection { return c.current.Load() }

// Project names the project that the client works in, among all projects of all
// clouds; only once Ready has returned nil.
func (c *Client) Project() string { return c.now().projectKey() }

// Close ends an authentication that may be under way, gives up connections that are
// idle, and takes the cloud's metrics away.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.now().shut()
	c.collector.end()
}

// call is one request to Cinder or Nova.
type call struct {
	// operation and resource are for the error; see cloud.Error.
	operation, resource string
	// metric is the value of the metrics' label.
	metric   string
	endpoint *endpoint
	// needs is the microversion below which there is no feature; dares tells that an older
	// cloud refuses the request, rather than doing less than was asked for.
	needs   microversion
	feature string
	dares   bool
	// version is the microversion that is asked for; the endpoint's normal one where unset.
	version microversion
	// method is GET where it is empty.
	method string
	// path is that below the endpoint, and ids are the ids in it.
	path, ids []string
	query     url.Values
	// body is sent, and answer filled, as JSON; nil for none.
	body, answer any
	// emptyWith is a status of success that may come without an answer.
	emptyWith int
}

// do sends a request, observes it and turns what goes wrong into a cloud.Error.
func (c *Client) do(ctx context.Context, r call) (err error) {
	r.method = cmp.Or(r.method, http.MethodGet)
	if err := r.known(); err != nil {
		return err
	}
	defer c.metrics.observe(r.metric, time.Now(), &err)
	ctx = onErrand(ctx, r.metric)
	if err := r.endpoint.learn(ctx); err != nil {
		return r.failure(err)
	}
	if err := r.negotiate(ctx); err != nil {
		return err
	}
	client := r.endpoint.at(r.version)
	segments := make([]string, len(r.path))
	for i, segment := range r.path {
		segments[i] = url.PathEscape(segment)
	}
	address := client.ServiceURL(segments...)
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	accept := []int{http.StatusOK}
	if r.method != http.MethodGet {
		accept = append(accept, http.StatusCreated, http.StatusAccepted, http.StatusNoContent)
	}
	a, err := fetch(ctx, client, r.method, address, &gophercloud.RequestOpts{JSONBody: r.body, OkCodes: accept})
	if err != nil {
		return r.failure(err)
	}
	if r.answer == nil || len(a.body) == 0 && a.broken == nil && a.status == r.emptyWith {
		return nil
	}
	if a.broken == nil {
		a.broken = json.Unmarshal(a.body, r.answer)
	}
	if a.broken != nil {
		return r.failure(&answerError{
			err: fmt.Errorf("the answer can't be read: %w", a.broken), status: a.status, requestID: requestID(a.header),
		})
	}
	return nil
}

// received is an answer of success.
type received struct {
	status int
	header http.Header
	body   []byte
	// broken is why the body is not whole.
	broken error
}

// fetch sends a request and reads the answer. Its error is about the request.
func fetch(ctx context.Context, client *gophercloud.ServiceClient, method, address string, opts *gophercloud.RequestOpts) (received, error) {
	opts.KeepResponseBody = true
	resp, err := client.Request(ctx, method, address, opts)
	if err != nil {
		return received{}, err
	}
	a := received{status: resp.StatusCode, header: resp.Header}
	a.body, a.broken = io.ReadAll(resp.Body)
	return a, resp.Body.Close()
}

// unexpected is the error of an answer that is well formed and yet can't be
// the answer to r.
func (r call) unexpected(format string, args ...any) error {
	return r.failure(&answerError{err: fmt.Errorf(format, args...), status: http.StatusOK})
}

// known returns ErrNotFound for an id that no cloud can know, without asking
// one. All ids that Cinder and Nova give are UUIDs in their usual form.
func (r call) known() error {
	for _, id := range r.ids {
		if len(id) != 36 || uuid.Validate(id) != nil {
			return &cloud.Error{
				Kind: cloud.ErrNotFound, Operation: r.operation, Resource: r.resource,
				Message: fmt.Sprintf("%q is not an id", id),
			}
		}
	}
	return nil
}

// sameID compares ids as the cloud does, which takes capitals as well.
func sameID(a, b string) bool { return strings.EqualFold(a, b) }
