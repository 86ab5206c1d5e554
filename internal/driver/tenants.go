package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/controller"
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
	// opened counts the tenants that there ever were.
	opened int
}

// tenant is one of them.
type tenant struct {
	// connected is closed when client and service, or err, are set.
	connected chan struct{}
	client    *openstack.Client
	service   *volumes.Service
	err       error
	// number tells it from all that there ever were.
	number int
	// users are the calls that it serves; idle runs while there is none of those
	// that brought its secret, and over tells that it has run out.
	users int
	idle  *time.Timer
	over  bool
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
		t.opened++
		one = &tenant{connected: make(chan struct{}), number: t.opened}
		t.open[key] = one
		go t.dial(key, one, cfg)
	}
	if one.idle != nil {
		one.idle.Stop()
		one.idle = nil
	}
	one.over = false
	one.users++
	return one
}

// all returns the tenants that are connected in the order in which they came,
// each project once, and none of some projects. That they are used by this does
// not keep them; release ends it.
func (t *tenants) all(except map[string]bool) (list []controller.Tenant, release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(t.open), func(a, b string) int { return cmp.Compare(t.open[a].number, t.open[b].number) })
	seen, used := make(map[string]bool), make(map[string]*tenant)
	maps.Copy(seen, except)
	for _, key := range keys {
		one := t.open[key]
		if one.client == nil || seen[one.client.Project()] {
			continue
		}
		seen[one.client.Project()], used[key] = true, one
		one.users++
		list = append(list, controller.Tenant{Name: fmt.Sprintf("secret:%d", one.number), Service: one.service})
	}
	return list, func() {
		for key, one := range used {
			t.stopUsing(key, one)
		}
	}
}

// stopUsing ends a call that did not bring the tenant's secret.
func (t *tenants) stopUsing(key string, one *tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one.users--; one.users > 0 || t.open[key] != one {
		return
	}
	switch {
	case one.over:
		t.remove(key, one)
	case one.idle == nil:
		one.idle = time.AfterFunc(t.idle, func() { t.drop(key, one) })
	}
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
	if t.open[key] != one || one.idle == nil {
		return
	}
	if one.over = true; one.users == 0 {
		t.remove(key, one)
	}
}

// remove ends a tenant. Only under the lock.
func (t *tenants) remove(key string, one *tenant) {
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
