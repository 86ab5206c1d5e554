package openstack

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/http"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// connection is a way to one cloud with one set of credentials, and what is
// known about the cloud from having gone it.
type connection struct {
	cfg     CloudConfig
	opts    Options
	agent   gophercloud.UserAgent
	base    *http.Transport
	session *session
	close   context.CancelFunc

	cinder, nova *endpoint
	// project is the id of the project that the account is in.
	project string

	zones       cached[[]string]
	types       cached[[]cloud.VolumeType]
	defaultType cached[cloud.VolumeType]
	pools       cached[poolsAnswer]
	quota       cached[cloud.Quota]
}

// dial authenticates, finds the services and negotiates.
func dial(ctx context.Context, cfg CloudConfig, opts Options, m *metrics) (*connection, error) {
	c, err := newConnection(cfg, opts, m)
	if err != nil {
		return nil, err
	}
	if err := c.connect(ctx); err != nil {
		c.shut()
		return nil, err
	}
	return c, nil
}

func newConnection(cfg CloudConfig, opts Options, m *metrics) (*connection, error) {
	var (
		tlsConfig *tls.Config
		err       error
	)
	if cfg.UseClouds {
		cfg, tlsConfig, err = cfg.withClouds()
	} else {
		tlsConfig, err = cfg.tlsConfig()
	}
	if err != nil {
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &connection{cfg: cfg, opts: opts, base: newTransport(tlsConfig, opts)}
	c.agent.Prepend("cinder-csi/" + cmp.Or(opts.Version, "unknown"))
	c.agent.Prepend(opts.UserAgent...)
	closing, done := context.WithCancel(context.Background())
	c.close = done
	c.session = &session{
		cfg: cfg, agent: c.agent, metric: m, closed: closing.Done(),
		client: c.httpClient(c.chain("identity", true)),
		fixed:  cfg.Token != "",
	}
	return c, nil
}

func (c *connection) connect(ctx context.Context) error {
	g, err := c.session.authenticate(ctx)
	if err != nil {
		return err
	}
	c.project = g.project
	if c.cinder, err = c.locate(ctx, g, blockStorageType, "block storage"); err != nil {
		return err
	}
	if c.nova, err = c.locate(ctx, g, computeType, "compute"); err != nil {
		return err
	}
	if !c.opts.IgnoreVolumeMicroversion {
		c.cinder.prefer(cinderPreferred)
	}
	c.nova.prefer(novaPreferred)
	return nil
}

// shut ends an authentication that may be under way and gives up connections
// that are idle.
func (c *connection) shut() {
	c.close()
	c.base.CloseIdleConnections()
}
