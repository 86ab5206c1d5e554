package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

const (
	// accountIdle is for how long an account of a secret stays after its last call, if
	// no volume of its project is attached.
	accountIdle = 10 * time.Minute
	// startPatience is how long a call waits for the first connection to a cloud of
	// cloud.conf. Later ones are told at once why there is none: callers with a limited
	// number of workers need them for the other clouds.
	startPatience = 5 * time.Second
	// maxSecretClouds is how many accounts of secrets there may be unless a flag says.
	maxSecretClouds = 100
)

// clouds are all clouds that calls may be about. A call gets its cloud by its secret:
//
//	no secret, or its key cloud alone   the section of cloud.conf of that name
//	credentials                         the cloud they lead to, where
//	                                    --secret-auth-urls allows its address
//	no secret is possible: lists, gets  all that are known, each project once
//
// Each set of credentials is an account, with a client and a service of its own; the
// accounts of one project share its locks. Those of cloud.conf are connected to in the
// background for as long as it takes, and stay. Those of secrets come with the first
// call, and go when no call has come for a while and no volume is attached.
type clouds struct {
	// open makes the client of a cloud, which the name is for in metrics.
	open    func(name string, cfg openstack.CloudConfig) (*openstack.Client, error)
	opts    volumes.Options
	allowed openstack.Addresses
	// most is the largest number of accounts of secrets.
	most   int
	idle   time.Duration
	logger *zap.Logger
	// ctx ends with the driver.
	ctx    context.Context //nolint:containedctx // it is the clouds' own lifetime
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu sync.Mutex
	// configured are the accounts of cloud.conf by name: all are added before the first
	// call. secrets are the others by the fingerprint of their secret, projects all that
	// are connected to.
	configured map[string]*account
	secrets    map[string]*account
	projects   map[string]*project
	// numbered counts the accounts of secrets that there ever were.
	numbered int
}

// account is one set of credentials.
type account struct {
	client *openstack.Client
	// name is its own in metrics and the log: that of its section, default for the one
	// without a name, and secret:N for the Nth secret.
	name string
	// conf names a section of cloud.conf; section is false for a secret.
	conf    string
	section bool
	// project and service are nil until the client is ready for the first time.
	project *project
	service *volumes.Service
	// users are the calls that it serves, and used is when the last one that brought
	// its secret ended.
	users int
	used  time.Time
}

// project is a project of a cloud, whoever has credentials for it. It has the name of the
// first account.
type project struct {
	key, name string
	locks     *volumes.Locks
	accounts  int
}

var errStopping = fmt.Errorf("the driver is stopping: %w", cloud.ErrUnavailable)

// newClouds returns clouds without any account.
func newClouds(open func(string, openstack.CloudConfig) (*openstack.Client, error), opts volumes.Options, allowed openstack.Addresses, most int, idle time.Duration) *clouds {
	c := &clouds{
		open: open, opts: opts, allowed: allowed, most: most, idle: idle, logger: opts.Logger,
		configured: make(map[string]*account), secrets: make(map[string]*account), projects: make(map[string]*project),
	}
	if c.logger == nil {
		c.logger = zap.NewNop()
	}
	c.ctx, c.cancel = context.WithCancel(logging.Into(context.Background(), c.logger))
	c.every(max(idle/10, time.Millisecond), "dropping idle accounts", func() bool {
		c.sweep()
		return false
	})
	return c
}

// add opens an account of cloud.conf and connects to it in the background. Its error
// is about the configuration.
func (c *clouds) add(name string, section openstack.CloudConfig) error {
	one := &account{name: c.unique(cmp.Or(name, "default")), conf: name, section: true}
	client, err := c.open(one.name, section)
	if err != nil {
		return err
	}
	one.client = client
	c.configured[name] = one
	log := c.logger.With(zap.String("cloud", one.name))
	var logged time.Time
	c.every(time.Second, "connecting to a cloud", func() (done bool) {
		err := client.Ready(c.ctx)
		if err == nil {
			_, err = c.ready(c.ctx, one)
		}
		switch {
		case err == nil:
			log.Info("connected to the cloud", zap.String("project", client.Project()))
			return true
		case c.ctx.Err() == nil && time.Since(logged) >= time.Minute:
			logged = time.Now()
			log.Error("the driver is not connected to the cloud and goes on trying: calls for it are refused", zap.Error(err))
		}
		return false
	})
	return nil
}

// every calls do at once and then in turn, until it returns true or the driver stops.
// A panic ends that one call of it.
func (c *clouds) every(pause time.Duration, what string, do func() (done bool)) {
	safely := func() (done bool) {
		defer func() {
			if p := recover(); p != nil {
				c.logger.Error("panic", zap.String("while", what), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			}
		}()
		return do()
	}
	c.group.Go(func() {
		ticker := time.NewTicker(pause)
		defer ticker.Stop()
		for !safely() {
			select {
			case <-c.ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
}

// Use returns the cloud of a call. release has to be called when the call is over.
func (c *clouds) Use(ctx context.Context, secrets map[string]string) (service *volumes.Service, release func(), err error) {
	one, err := c.account(ctx, secrets)
	if err != nil {
		return nil, nil, err
	}
	release = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		one.users--
		one.used = time.Now()
	}
	wait, cancel := ctx, context.CancelFunc(func() {})
	if one.section && one.client.State() != nil {
		wait, cancel = context.WithTimeout(ctx, startPatience)
	}
	defer cancel()
	if service, err = c.ready(wait, one); err != nil {
		release()
		return nil, nil, err
	}
	return service, release, nil
}

// account returns the account of a call, and counts the call.
func (c *clouds) account(ctx context.Context, secrets map[string]string) (*account, error) {
	cfg, key, found, err := openstack.SecretConfig(secrets)
	if !found {
		return c.named(secrets[controller.CloudSecret])
	}
	if c.allowed.Off() || err == nil {
		err = cmp.Or(c.allowed.Permit(cfg), err)
	}
	if err != nil {
		return nil, err
	}
	c.evictForNew(ctx, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.secrets[key]
	switch {
	case c.ctx.Err() != nil:
		return nil, errStopping
	case one == nil && len(c.secrets) >= c.most:
		return nil, fmt.Errorf("%w: the driver already works with %d sets of credentials from secrets, as many as --max-secret-clouds allows", cloud.ErrUnavailable, c.most)
	case one == nil:
		one = &account{name: c.unique(fmt.Sprintf("secret:%d", c.numbered+1))}
		if one.client, err = c.open(one.name, cfg); err != nil {
			return nil, fmt.Errorf("%w: %w", cloud.ErrInvalid, err)
		}
		c.numbered++
		c.secrets[key] = one
	}
	one.users++
	return one, nil
}

// named returns the account of a section of cloud.conf.
func (c *clouds) named(name string) (*account, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.configured[name]
	if one == nil {
		return nil, fmt.Errorf("%w: secret %q names cloud %q, which is not configured; there are: %s", cloud.ErrInvalid,
			controller.CloudSecret, name, strings.Join(slices.Sorted(maps.Keys(c.configured)), ", "))
	}
	one.users++
	return one, nil
}

// ready connects unless that is done, and returns the service.
func (c *clouds) ready(ctx context.Context, one *account) (*volumes.Service, error) {
	// Calls leave the attempts for a section of cloud.conf, from the second on, to the
	// background.
	err := one.client.State()
	if err != nil && (!one.section || errors.Is(err, openstack.ErrConnecting)) {
		err = one.client.Ready(ctx)
	}
	if err != nil {
		return nil, one.notReady(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if one.service != nil {
		return one.service, nil
	}
	key := one.client.Project()
	p := c.projects[key]
	if p == nil {
		p = &project{key: key, name: one.name, locks: volumes.NewLocks()}
		c.projects[key] = p
	}
	p.accounts++
	opts := c.opts
	opts.Cloud, opts.Locks = one.name, p.locks
	one.project, one.service = p, volumes.New(one.client, opts)
	return one.service, nil
}

// notReady is the error of a call for an account that is not ready. What is wrong with
// a section of cloud.conf is the operator's to mend, so that callers ask again: the
// error is of no other kind. What is wrong with a secret is an error of the request.
func (a *account) notReady(err error) error {
	if a.section {
		return fmt.Errorf("cloud %q is not connected: %w: %v", a.conf, cloud.ErrUnavailable, err) //nolint:errorlint // see above
	}
	for _, kind := range []error{cloud.ErrUnauthorized, cloud.ErrUnavailable, cloud.ErrForbidden, cloud.ErrInvalid} {
		if errors.Is(err, kind) {
			return fmt.Errorf("connecting with the credentials of a secret: %w", err)
		}
	}
	kind := cloud.ErrInvalid
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		kind = cloud.ErrUnavailable
	}
	return fmt.Errorf("connecting with the credentials of a secret: %w: %w", kind, err)
}

// All returns all clouds that are known, each project once: the sections of cloud.conf
// by name, then the projects of secrets as they came. It waits for the first attempt at
// a section as Use does. release has to be called when the call is over.
func (c *clouds) All(ctx context.Context) (all []controller.Cloud, release func()) {
	wait, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for _, one := range c.configured {
		_, _ = c.ready(wait, one) // told below
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	listed := make(map[*project]bool)
	var used []*account
	for _, name := range slices.Sorted(maps.Keys(c.configured)) {
		one := c.configured[name]
		if one.service == nil {
			all = append(all, controller.Cloud{Name: name, Err: one.notReady(one.client.State())})
			continue
		}
		listed[one.project] = true
		all = append(all, controller.Cloud{Name: name, Service: one.service})
	}
	// The one that was used last speaks for its project, unless it is refused.
	byUse := slices.SortedFunc(maps.Values(c.secrets), func(a, b *account) int {
		if a.client.Refused() != b.client.Refused() {
			return map[bool]int{true: 1, false: -1}[a.client.Refused()]
		}
		return b.used.Compare(a.used)
	})
	var others []*account
	for _, one := range byUse {
		if one.service != nil && !listed[one.project] {
			listed[one.project] = true
			others = append(others, one)
		}
	}
	slices.SortFunc(others, func(a, b *account) int {
		return cmp.Or(cmp.Compare(len(a.project.name), len(b.project.name)), cmp.Compare(a.project.name, b.project.name))
	})
	for _, one := range others {
		one.users++
		used = append(used, one)
		all = append(all, controller.Cloud{Name: one.project.name, Service: one.service})
	}
	return all, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, one := range used {
			one.users--
		}
	}
}

// evictForNew drops accounts that nobody needs when there is none left for a new one,
// those first that were used longest ago. It asks about three at the most, so that a
// call for a new account costs the others little.
func (c *clouds) evictForNew(ctx context.Context, key string) {
	for range 3 {
		c.mu.Lock()
		full := c.secrets[key] == nil && len(c.secrets) >= c.most
		var oldest string
		for name, one := range c.secrets {
			if one.users == 0 && (oldest == "" || one.used.Before(c.secrets[oldest].used)) {
				oldest = name
			}
		}
		c.mu.Unlock()
		if !full || oldest == "" || ctx.Err() != nil {
			return
		}
		c.dropUnneeded(ctx, oldest)
	}
}

// sweep drops the accounts of secrets that have been idle and that nobody needs.
func (c *clouds) sweep() {
	c.mu.Lock()
	var idle []string
	for key, one := range c.secrets {
		if one.users == 0 && time.Since(one.used) > c.idle {
			idle = append(idle, key)
		}
	}
	c.mu.Unlock()
	for _, key := range idle {
		c.dropUnneeded(c.ctx, key)
	}
}

// dropUnneeded drops an account of a secret, unless its project has attached volumes
// that no other account lists: external-attacher takes a volume that is not in the list
// for one that is not attached, and publishes it again (ReconcileVA of its
// pkg/controller/csi_handler.go). One that is needed counts as used.
func (c *clouds) dropUnneeded(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c.mu.Lock()
	one := c.secrets[key]
	if one == nil || one.users > 0 {
		c.mu.Unlock()
		return
	}
	one.users++
	used := one.used
	ask := one.service != nil && one.project.accounts == 1 && !one.client.Refused()
	c.mu.Unlock()
	needed := false
	if ask {
		attached, err := one.service.Attached(ctx)
		// Whether the cloud has attached volumes is not known while it does not answer.
		needed = attached || err != nil && !errors.Is(err, cloud.ErrUnauthorized)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	one.users--
	switch {
	case needed:
		one.used = time.Now()
	case one.users == 0 && one.used.Equal(used) && c.secrets[key] == one:
		delete(c.secrets, key)
		c.forget(one)
	}
}

// forget ends an account. Only under the lock.
func (c *clouds) forget(one *account) {
	one.client.Close()
	if one.project == nil {
		return
	}
	one.service.Close()
	if one.project.accounts--; one.project.accounts == 0 {
		delete(c.projects, one.project.key)
	}
}

// accounts returns all of them. Only under the lock.
func (c *clouds) accounts() []*account {
	return slices.Concat(slices.Collect(maps.Values(c.configured)), slices.Collect(maps.Values(c.secrets)))
}

// unique returns a name for metrics that no account has: a section may be called default,
// beside the one without a name, or secret:1.
func (c *clouds) unique(name string) string {
	for slices.ContainsFunc(c.accounts(), func(a *account) bool { return a.name == name }) {
		name += "+"
	}
	return name
}

// Health returns what is known of all clouds, by their names. It asks nobody. A secret that
// never led to a cloud is not among them: that is the matter of whoever wrote it.
func (c *clouds) Health() (all []openstack.Health) {
	c.mu.Lock()
	accounts := slices.DeleteFunc(c.accounts(), func(one *account) bool { return !one.section && one.service == nil })
	c.mu.Unlock()
	slices.SortFunc(accounts, func(a, b *account) int { return cmp.Compare(a.name, b.name) })
	for _, one := range accounts {
		all = append(all, one.client.Health())
	}
	return all
}

// unready returns the sections of cloud.conf that the driver has not connected to since
// it started, and whether these are all.
func (c *clouds) unready() (names []string, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, one := range c.configured {
		if one.service == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, len(names) == len(c.configured)
}

// close ends all of them.
func (c *clouds) close() {
	c.cancel()
	c.mu.Lock()
	for _, one := range c.accounts() {
		one.client.Close()
	}
	c.mu.Unlock()
	c.group.Wait()
}
