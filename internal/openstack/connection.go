package openstack

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/inflight"
)

// The pauses between two attempts to connect to a cloud that is down.
const (
	downPause    = time.Second
	maxDownPause = 30 * time.Second
)

// connection is a way to one cloud with one set of credentials, and what is
// known about the cloud from having gone it.
type connection struct {
	cfg     CloudConfig
	opts    Options
	limits  *limits
	agent   gophercloud.UserAgent
	base    *http.Transport
	metrics *metrics
	tracer  trace.Tracer
	sights  sights
	session *session
	// certificate is when that of cert-file ends, zero where there is none.
	certificate time.Time
	// closing ends with the client, by close.
	closing context.Context //nolint:containedctx // it is the client's own lifetime
	close   context.CancelFunc

	attempts inflight.Group[struct{}]
	// down is the last attempt to connect that failed.
	down failure
	// connected tells that the credentials have proven good and the services are
	// found: cinder, nova and project are set, and stay as they are.
	connected    atomic.Bool
	cinder, nova *endpoint
	// project is the id of the project that the account is in.
	project string

	zones       cached[[]string]
	types       cached[[]cloud.VolumeType]
	defaultType cached[cloud.VolumeType]
	pools       cached[poolsAnswer]
	quota       cached[cloud.Quota]
}

// newConnection checks the configuration. It sends nothing.
func newConnection(cfg CloudConfig, opts Options, l *limits, m *metrics) (*connection, error) {
	if cfg.UseClouds {
		var err error
		if cfg, err = cfg.withClouds(); err != nil {
			return nil, err
		}
	}
	tlsConfig, err := cfg.tlsConfig()
	if err != nil {
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &connection{
		cfg: cfg, opts: opts, limits: l, metrics: m, base: newTransport(tlsConfig),
		tracer: otel.Tracer(scope), sights: newSights(),
		down: failure{first: downPause, most: maxDownPause},
	}
	for _, pair := range tlsConfig.Certificates {
		c.certificate = pair.Leaf.NotAfter
	}
	c.agent.Prepend("cinder-csi/" + cmp.Or(opts.Version, "unknown"))
	c.agent.Prepend(opts.UserAgent...)
	c.closing, c.close = context.WithCancel(context.Background())
	c.session = &session{
		conn: c, client: c.httpClient(c.chain(keystoneName)),
		refused: failure{first: refusedPause, most: maxRefusedPause},
	}
	return c, nil
}

// ready connects unless that is done, once for all callers who need it. An attempt
// that failed is not repeated by the next call but after a pause.
func (c *connection) ready(ctx context.Context) error {
	if c.connected.Load() {
		return nil
	}
	if err := c.down.remembered(); err != nil {
		return err
	}
	_, err := shared(ctx, c.closing, &c.attempts, func(ctx context.Context) (none struct{}, err error) {
		if c.connected.Load() {
			return none, nil
		}
		ctx, cancel := context.WithTimeout(ctx, c.opts.LoginTimeout)
		defer cancel()
		err = c.connect(ctx)
		c.down.note(err)
		return none, err
	})
	if err != nil && err == ctx.Err() { //nolint:errorlint // the caller's own end, and no error that holds one
		return c.cfg.connectError("auth-url "+redacted(c.cfg.AuthURL), "a Keystone v3", err)
	}
	return err
}

// connect authenticates and finds the services in the catalog. A service that does
// not tell its microversions is asked again by whoever needs it.
func (c *connection) connect(ctx context.Context) error {
	g, err := c.session.authenticate(ctx)
	if err != nil {
		return err
	}
	c.project = g.project
	cinder, nova := blockStorage(g.project), compute()
	urls, err := c.cfg.locate(g, cinder, nova)
	if err != nil {
		return err
	}
	if c.cinder, err = c.endpoint(cinder, urls[0]); err != nil {
		return err
	}
	if c.nova, err = c.endpoint(nova, urls[1]); err != nil {
		return err
	}
	c.cinder.withoutMicroversion = c.opts.IgnoreVolumeMicroversion
	for _, e := range []*endpoint{c.cinder, c.nova} {
		if err := e.learnSoon(ctx); errors.Is(err, cloud.ErrForbidden) {
			return err // the catalog leads where the credentials may not go
		}
	}
	c.connected.Store(true)
	return nil
}

// projectKey names the project among all projects of all clouds: by the address of Keystone,
// without what may be left out of it, and the project's id.
func (c *connection) projectKey() string {
	u, err := url.Parse(c.cfg.AuthURL)
	if err != nil {
		return c.cfg.AuthURL + " " + c.project
	}
	path := strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/v3")
	return u.Scheme + "://" + hostOf(u) + strings.TrimRight(path, "/") + " " + c.project
}

// shut ends an authentication that may be under way and gives up connections
// that are idle.
func (c *connection) shut() {
	c.close()
	c.base.CloseIdleConnections()
}
