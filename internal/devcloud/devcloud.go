package devcloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/cinder"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/keystone"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/metadata"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/nova"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// databaseName is the file in the state directory that holds all records.
const databaseName = "cloud.db"

// diskDir is the folder in the state directory that the data plane has to itself.
const diskDir = "disks"

// serverImage is the id of the image that the servers claim to run.
const serverImage = "dd5c2c3d-c04f-4c6c-8abf-c011dbe2e695"

// stopTimeout is how long Close waits for answers under way.
const stopTimeout = 5 * time.Second

// Cloud is a running cloud.
type Cloud struct {
	cfg      Config
	state    *state.Cloud
	disks    *disk.Store // nil without a data plane
	identity *keystone.Service
	counts   *counter
	server   *http.Server
	url      string
	served   chan struct{}

	closing sync.Once
	closed  error
}

// Start starts a cloud. It is listening when Start returns, and goes on with
// whatever an earlier process has left in the state directory. ctx bounds the
// start only.
func Start(ctx context.Context, cfg Config) (*Cloud, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("devcloud: %w", err)
	}
	c := &Cloud{cfg: cfg, counts: newCounter(), served: make(chan struct{})}
	if err := c.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("devcloud: %w", err), c.release(false))
	}
	if err := c.listen(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("devcloud: %w", err), c.release(false))
	}
	return c, nil
}

// open opens the state and the data plane and brings them together.
func (c *Cloud) open() error {
	if err := os.MkdirAll(c.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("create the state directory: %w", err)
	}
	plane := state.Plane(state.NoPlane{})
	if c.cfg.Disks == DisksLoop {
		disks, err := disk.Open(filepath.Join(c.cfg.StateDir, diskDir))
		if err != nil {
			return err
		}
		c.disks, plane = disks, loopPlane{disks}
	}
	opened, err := state.Open(filepath.Join(c.cfg.StateDir, databaseName), state.Options{
		Plane: plane, Latency: c.cfg.Latency, Behaviour: c.cfg.Behaviour, Logger: c.cfg.Logger,
		Ended: c.cfg.Ended,
	})
	if err != nil {
		return err
	}
	c.state = opened
	if err := c.state.Connect(); err != nil {
		return err
	}
	c.state.Run()
	for _, s := range c.cfg.Servers {
		if _, err := c.ensureServer(s); err != nil {
			return fmt.Errorf("server: %w", err)
		}
	}
	return nil
}

// nameTimeout is how long a new server waits for one of its name that is being
// deleted, and nameRetry how often it looks.
const (
	nameTimeout = 10 * time.Second
	nameRetry   = 20 * time.Millisecond
)

// ensureServer creates a server that is not there yet, for the demo user.
func (c *Cloud) ensureServer(s Server) (state.Server, error) {
	if !state.ServerKey(s.Name) {
		return state.Server{}, fmt.Errorf("%q is no name for a server: use up to 50 letters, digits, '.', '_' and '-'", s.Name)
	}
	user, _ := c.state.Accounts().User(state.DemoUser)
	call := state.Call{RequestID: rest.NewID(), UserID: user.ID, ProjectID: user.ProjectID}
	spec := state.ServerSpec{ID: s.ID, Name: s.Name, Zone: s.Zone, FlavorID: "1", ImageID: serverImage, Active: true}
	for deadline := time.Now().Add(nameTimeout); ; time.Sleep(nameRetry) {
		if found, ok := c.state.ServerByKey(s.Name); ok {
			return found, nil
		}
		server, err := c.state.CreateServer(call, spec)
		if !errors.Is(err, state.ErrNameTaken) || time.Now().After(deadline) {
			return server, err
		}
	}
}

// listen starts to serve.
func (c *Cloud) listen(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.cfg.Listen)
	if err != nil {
		return err
	}
	c.url = "http://" + l.Addr().String()
	c.server = &http.Server{Handler: c.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: zap.NewStdLog(c.cfg.Logger)}
	go func() {
		defer close(c.served)
		if err := c.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			c.cfg.Logger.Error("devcloud stopped serving", zap.Error(err))
		}
	}()
	return nil
}

// handler is all services behind one front.
func (c *Cloud) handler() http.Handler {
	front := &front{cloud: c.state, counts: c.counts, log: c.cfg.Logger}
	c.identity = keystone.New(c.state)
	routes := c.identity.Routes()
	routes = append(routes, cinder.New(c.state, c.identity.Authenticate).Routes()...)
	routes = append(routes, nova.New(c.state, c.identity.Authenticate).Routes()...)
	routes = append(routes, metadata.New(c.state).Routes()...)
	mux := http.NewServeMux()
	for _, route := range routes {
		mux.Handle(route.Pattern, front.handler(route))
	}
	c.adminRoutes(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.RawPath = "" // as for a WSGI application, an encoded slash is one like any other
		mux.ServeHTTP(w, r)
	})
}

// URL is where the cloud listens, as in "http://127.0.0.1:4711".
func (c *Cloud) URL() string { return c.url }

// AuthURL is where tokens are made.
func (c *Cloud) AuthURL() string { return c.url + "/identity/v3" }

// MetadataURL is what takes the place of http://169.254.169.254 for a server.
func (c *Cloud) MetadataURL(name string) string { return c.url + "/metadata/" + name }

// ServerID returns the id of the server with that name, "" if there is none.
func (c *Cloud) ServerID(name string) string {
	s, _ := c.state.ServerByKey(name)
	return s.ID
}

// DeviceDir is the folder that takes the place of /dev for a server; "" without
// a data plane.
func (c *Cloud) DeviceDir(name string) string {
	if c.disks == nil {
		return ""
	}
	return c.disks.DeviceDir(name)
}

// Admin returns a client that watches and steers the cloud.
func (c *Cloud) Admin() *admin.Client { return admin.NewClient(c.url) }

// Close stops serving and writes the state. Disks stay attached, and the next
// Start finds everything; an ephemeral cloud removes all of it instead.
func (c *Cloud) Close() error {
	c.closing.Do(func() {
		c.state.Interrupt()
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		err := c.server.Shutdown(ctx)
		if err != nil {
			err = c.server.Close()
		}
		<-c.served
		c.closed = errors.Join(err, c.release(c.cfg.Ephemeral))
	})
	return c.closed
}
