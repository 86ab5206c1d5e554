// Package registration makes the node plugin known to the kubelet, so that no
// side container is needed for it: it serves version 1 of the kubelet's plugin
// registration API on a socket in the directory that the kubelet watches.
//
// The kubelet registers what it finds there, and does so again after its own
// restart. The socket therefore stays for as long as the plugin runs; when it
// goes, the kubelet takes the driver off the node, and it is made again.
package registration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	api "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/cinder-csi/cinder-csi/internal/unixsocket"
)

// lookEvery is how often the socket is looked for. A cleaner of temporary files
// or a reset of the kubelet may have taken it.
const lookEvery = 5 * time.Second

// What the log says of a registration, for those who wait for it.
const (
	Registered = "the kubelet has registered this driver"
	SocketLost = "the registration socket of this driver is lost"
)

// Config says whom to register, and where.
type Config struct {
	// Driver is the name of the CSI driver.
	Driver string
	// NodeName is what Kubernetes calls this node, for the log.
	NodeName string
	// Endpoint is the path of the CSI socket, as the kubelet sees it.
	Endpoint string
	// Dir is the directory of the kubelet's registration sockets, as this process
	// sees it.
	Dir string
	// Logger is told what the kubelet says.
	Logger *zap.Logger
	// Registered is called with each verdict of the kubelet, and with false when
	// the socket is lost; nil for nobody.
	Registered func(bool)
	// Metrics gets the metric of the kubelet's verdict; nil for none.
	Metrics prometheus.Registerer
	// LookEvery is how often the socket is looked for; 5 s where it is 0.
	LookEvery time.Duration
}

// Path is where the registration socket is. The name is the one that
// node-driver-registrar uses, so that each takes the place of the other.
func (c Config) Path() string { return filepath.Join(c.Dir, c.Driver+"-reg.sock") }

// counted makes a verdict of the kubelet known as a metric, too.
func (c Config) counted() Config {
	gauge := promauto.With(c.Metrics).NewGauge(prometheus.GaugeOpts{
		Name: "cinder_csi_node_registered",
		Help: "1 while the kubelet has registered the driver, by its last word; 0 before, when it refused, and when the registration socket is lost.",
	})
	told := c.Registered
	c.Registered = func(yes bool) {
		gauge.Set(0)
		if yes {
			gauge.Set(1)
		}
		if told != nil {
			told(yes)
		}
	}
	return c
}

// Serve answers the kubelet until ctx ends, and takes the socket away then. The
// CSI socket must be served before: the kubelet calls it at once.
//
// At its start it takes the place of whoever serves the path: that is an older plugin,
// or the registrar of another one that is being replaced. From then on it never takes
// the socket of somebody who is alive, so that two plugins don't fight for the path. When
// its own socket is gone, or another one is in its place, the kubelet has lost this
// driver, or knows another one by its name: Serve says so, and makes its socket again
// as soon as nobody serves the path.
func Serve(ctx context.Context, cfg Config) error {
	cfg = cfg.counted()
	l, err := cfg.listen(ctx, unixsocket.Listen)
	for err == nil {
		var lost error
		if lost, err = cfg.serve(ctx, l); err != nil || lost == nil {
			break
		}
		cfg.Registered(false)
		cfg.Logger.Warn(SocketLost+"; making it again as soon as nobody else serves the path, so that the kubelet knows this driver",
			zap.String("socket", cfg.Path()), zap.NamedError("cause", lost))
		l, err = cfg.listenWhenFree(ctx)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("register with the kubelet: %w", err)
	}
	return nil
}

// listen opens the socket. The kubelet calls as root: nobody else has to.
func (c Config) listen(ctx context.Context, listen func(context.Context, string) (*unixsocket.Listener, error)) (*unixsocket.Listener, error) {
	info, err := os.Stat(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("%w: mount the kubelet's directory plugins_registry there, or set --plugin-registration-path", err)
	}
	if isDeleted(info) {
		return nil, fmt.Errorf("%w: what is mounted at %s was removed by the node, and the kubelet uses another directory by now: the container has to be started again",
			errDeleted, c.Dir)
	}
	l, err := listen(ctx, c.Path())
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(c.Path(), 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// errDeleted means that this process sees a directory which isn't the kubelet's any more.
var errDeleted = errors.New("the registration directory is gone for good")

// isDeleted tells whether a directory was removed, and is seen only through a mount or a
// descriptor from before.
func isDeleted(dir os.FileInfo) bool {
	stat, ok := dir.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}

// listenWhenFree opens the socket as soon as nobody serves the path. Each reason to
// wait is logged once.
func (c Config) listenWhenFree(ctx context.Context) (*unixsocket.Listener, error) {
	look := time.NewTicker(cmp.Or(c.LookEvery, lookEvery))
	defer look.Stop()
	for told := ""; ; {
		l, err := c.listen(ctx, unixsocket.ListenIfFree)
		if err == nil || errors.Is(err, errDeleted) {
			return l, err
		}
		if reason := err.Error(); reason != told && ctx.Err() == nil {
			told = reason
			c.Logger.Warn("the registration socket can't be made; looking again, and until then the kubelet doesn't know this driver",
				zap.String("socket", c.Path()), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-look.C:
		}
	}
}

// serve serves on one socket until ctx ends or the socket is lost to others; lost says
// how.
func (c Config) serve(ctx context.Context, l *unixsocket.Listener) (lost, err error) {
	server := grpc.NewServer()
	api.RegisterRegistrationServer(server, &service{cfg: c})
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	c.Logger.Info("waiting for the kubelet to register this driver",
		zap.String("socket", c.Path()), zap.String("kubeletRegistrationPath", c.Endpoint))

	look := time.NewTicker(cmp.Or(c.LookEvery, lookEvery))
	defer look.Stop()
	for {
		select {
		case err := <-failed:
			return nil, fmt.Errorf("serve on %s: %w", c.Path(), errors.Join(err, l.Remove()))
		case <-ctx.Done():
			// First the socket, so that the kubelet doesn't come for another call.
			err := l.Remove()
			server.GracefulStop()
			return nil, errors.Join(err, <-failed)
		case <-look.C:
			if lost := l.There(); lost != nil {
				server.Stop()
				return lost, <-failed
			}
		}
	}
}
