// Package registration makes the node plugin known to the kubelet, so that no
// side container is needed for it: it serves version 1 of the kubelet's plugin
// registration API on a socket in the directory that the kubelet watches.
//
// The kubelet registers what it finds there, and does so again after its own
// restart. The socket therefore stays for as long as the plugin runs; when it
// goes, the kubelet takes the driver off the node.
package registration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	api "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/cinder-csi/cinder-csi/internal/unixsocket"
)

// lookEvery is how often the socket is looked for. A cleaner of temporary files
// or a reset of the kubelet may have taken it.
const lookEvery = 5 * time.Second

// Config says whom to register, and where.
type Config struct {
	// Driver is the name of the CSI driver.
	Driver string
	// Endpoint is the path of the CSI socket, as the kubelet sees it.
	Endpoint string
	// Dir is the directory of the kubelet's registration sockets, as this process
	// sees it.
	Dir string
	// Logger is told what the kubelet says.
	Logger *zap.Logger
	// Registered is called with each verdict of the kubelet, and with false when
	// the socket has to be made again; nil for nobody.
	Registered func(bool)
	// LookEvery is how often the socket is looked for; 5 s where it is 0.
	LookEvery time.Duration
}

// Path is where the registration socket is. The name is the one that
// node-driver-registrar uses, so that each takes the place of the other.
func (c Config) Path() string { return filepath.Join(c.Dir, c.Driver+"-reg.sock") }

func (c Config) registered(yes bool) {
	if c.Registered != nil {
		c.Registered(yes)
	}
}

// Serve answers the kubelet until ctx ends, and takes the socket away then. The
// CSI socket must be served before: the kubelet calls it at once.
func Serve(ctx context.Context, cfg Config) error {
	for {
		l, err := cfg.listen(ctx)
		if err != nil {
			return fmt.Errorf("register with the kubelet: %w", err)
		}
		err = cfg.serve(ctx, l)
		switch {
		case errors.Is(err, unixsocket.ErrGone):
			cfg.registered(false)
			cfg.Logger.Warn("the registration socket was removed by somebody else; making it again, so that the kubelet keeps this driver",
				zap.String("socket", cfg.Path()))
			continue
		case errors.Is(err, unixsocket.ErrReplaced):
			// That is a younger plugin, which was started while this one is being
			// stopped. The kubelet talks to that one now.
			cfg.Logger.Warn("another plugin has put its registration socket in the place of this one's; leaving registration to it",
				zap.String("socket", cfg.Path()))
			<-ctx.Done()
			return nil
		case err != nil:
			return fmt.Errorf("register with the kubelet: serve on %s: %w", cfg.Path(), err)
		}
		return nil
	}
}

// listen opens the socket. The kubelet calls as root: nobody else has to.
func (c Config) listen(ctx context.Context) (*unixsocket.Listener, error) {
	if _, err := os.Stat(c.Dir); err != nil {
		return nil, fmt.Errorf("%w: mount the kubelet's directory plugins_registry there, or set --plugin-registration-path", err)
	}
	l, err := unixsocket.Listen(ctx, c.Path())
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(c.Path(), 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// serve serves on one socket until ctx ends or the socket is gone.
func (c Config) serve(ctx context.Context, l *unixsocket.Listener) error {
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
			return errors.Join(err, l.Remove())
		case <-ctx.Done():
			// First the socket, so that the kubelet doesn't come for another call.
			err := l.Remove()
			server.GracefulStop()
			return errors.Join(err, <-failed)
		case <-look.C:
			if err := l.There(); err != nil {
				server.Stop()
				return errors.Join(err, <-failed)
			}
		}
	}
}
