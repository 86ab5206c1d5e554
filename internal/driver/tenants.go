package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// tenantIdle is for how long a cloud that is known from a secret alone stays
// connected after its last call.
const tenantIdle = 10 * time.Minute

// tenants are the clouds whose credentials come with calls, in a secret. Each
// has a client, a watcher and a limiter of its own. They appear with the first
// call and go when nobody has called for a while.
type tenants struct {
	connect func(context.Context, openstack.CloudConfig) (*openstack.Client, error)
	opts    volumes.Options
	idle    time.Duration
	// ctx ends with the driver, and with it connecting.
	ctx    context.Context //nolint:containedctx // it is the tenants' own lifetime
	cancel context.CancelFunc

	mu   sync.Mutex
	open map[string]*tenant
}

// tenant is one of them.
type tenant struct {
	// connected is closed when client and service, or err, are set.
	connected chan struct{}
	client    *openstack.Client
	service   *volumes.Service
	err       error
	// users are the calls that it serves; idle runs while there is none.
	users int
	idle  *time.Timer
}

func newTenants(connect func(context.Context, openstack.CloudConfig) (*openstack.Client, error), opts volumes.Options, idle time.Duration) *tenants {
	ctx, cancel := context.WithCancel(context.Background())
	return &tenants{connect: connect, opts: opts, idle: idle, ctx: ctx, cancel: cancel, open: make(map[string]*tenant)}
}

// use returns the service for the credentials in a secret, nil where it holds
// none. release has to be called when the call is over.
func (t *tenants) use(ctx context.Context, secrets map[string]string) (service *volumes.Service, release func(), err error) {
	cfg, key, found, err := openstack.SecretConfig(secrets)
	if !found || err != nil {
		return nil, nil, err
	}
	one := t.enter(key, cfg)
	select {
	case <-one.connected:
	case <-ctx.Done():
		t.leave(key, one)
		return nil, nil, ctx.Err()
	}
	if one.err != nil {
		t.leave(key, one)
		return nil, nil, one.err
	}
	return one.service, func() { t.leave(key, one) }, nil
}

// enter counts a call, and begins to connect for the first one.
func (t *tenants) enter(key string, cfg openstack.CloudConfig) *tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.open[key]
	if one == nil {
		one = &tenant{connected: make(chan struct{})}
		t.open[key] = one
		go t.dial(key, one, cfg)
	}
	if one.idle != nil {
		one.idle.Stop()
		one.idle = nil
	}
	one.users++
	return one
}

// dial connects. A failure is for those who wait, and is not kept.
func (t *tenants) dial(key string, one *tenant, cfg openstack.CloudConfig) {
	client, err := t.connect(t.ctx, cfg)
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(one.connected)
	switch {
	case err != nil:
		one.err = fmt.Errorf("connecting with the credentials of a secret: %w", refused(err))
	case t.ctx.Err() != nil:
		client.Close()
		one.err = fmt.Errorf("the driver is stopping: %w", cloud.ErrUnavailable)
	default:
		one.client, one.service = client, volumes.New(client, t.opts)
		return
	}
	if t.open[key] == one {
		delete(t.open, key)
	}
}

// refused turns what is wrong with a secret into an error of the request, and
// all else into one that makes the caller ask again.
func refused(err error) error {
	switch {
	case errors.Is(err, cloud.ErrUnauthorized), errors.Is(err, cloud.ErrUnavailable), errors.Is(err, cloud.ErrForbidden), errors.Is(err, cloud.ErrInvalid):
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", cloud.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", cloud.ErrInvalid, err)
}

// leave ends a call. The last one starts the time after which the tenant goes.
func (t *tenants) leave(key string, one *tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one.users--; one.users > 0 || t.open[key] != one {
		return
	}
	one.idle = time.AfterFunc(t.idle, func() { t.drop(key, one) })
}

func (t *tenants) drop(key string, one *tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one.users > 0 || t.open[key] != one {
		return
	}
	delete(t.open, key)
	if one.client != nil {
		one.client.Close()
	}
}

// close ends all of them.
func (t *tenants) close() {
	t.cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, one := range t.open {
		if one.idle != nil {
			one.idle.Stop()
		}
		if one.client != nil {
			one.client.Close()
		}
		delete(t.open, key)
	}
}
