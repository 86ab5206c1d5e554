package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/rpc"
	"github.com/cinder-csi/cinder-csi/internal/unixsocket"
)

// listenBeside opens what is served beside CSI: the pages, and the socket of the admin
// package. Either is nil where there is none.
func listenBeside(ctx context.Context, cfg Config, logger *zap.Logger) (web, administration net.Listener, err error) {
	if cfg.HTTPEndpoint != "" {
		if web, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.HTTPEndpoint); err != nil {
			return nil, nil, fmt.Errorf("--http-endpoint: %w", err)
		}
	}
	path := cfg.adminSocket()
	if path == "" || cfg.LogLevel == nil {
		return web, nil, nil
	}
	socket, err := unixsocket.ListenPrivate(ctx, path)
	switch {
	case err == nil:
		return web, socket, nil
	case cfg.AdminEndpoint == "":
		// Nobody has asked for it by name: that there is none stops nothing.
		logger.Warn("the log level can't be changed and profiles can't be read: choose another --admin-endpoint", zap.Error(err))
		return web, nil, nil
	case web != nil:
		_ = web.Close()
	}
	return nil, nil, fmt.Errorf("--admin-endpoint: %w", err)
}

// healthy answers whether the gRPC server does, by a call that comes in as the
// kubelet's do. The call asks nothing of the cloud, nor of a disk: neither gets
// well from a restart of the plugin.
func healthy(endpoint rpc.Endpoint) http.HandlerFunc {
	const patience = 5 * time.Second
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		if err := rpc.Probe(ctx, endpoint); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	}
}

// readiness answers whether the plugin is of use: healthy, registered with the kubelet
// where it registers itself, and connected to a cloud since it started where it has
// any. An update that the kubelets refuse, or whose credentials are wrong, then stops
// at the first pod; a restart would make nothing better. A cloud that goes away later,
// or one of several, leaves the plugin ready: what is left of the clouds needs it, and
// pods that are not ready would keep nodes from being drained.
type readiness struct {
	// registers tells that the plugin registers itself with the kubelet.
	registers  bool
	registered atomic.Bool
	// clouds is nil without the controller role.
	clouds *clouds
}

func (s *readiness) handler(endpoint rpc.Endpoint) http.HandlerFunc {
	health := healthy(endpoint)
	return func(w http.ResponseWriter, r *http.Request) {
		if s.registers && !s.registered.Load() {
			http.Error(w, "the kubelet has not registered the driver; the log has what it said, if it came at all", http.StatusServiceUnavailable)
			return
		}
		var said strings.Builder
		if s.clouds != nil {
			names, all := s.clouds.unready()
			for _, name := range names {
				fmt.Fprintf(&said, "cloud %q is not connected; the log has the reason\n", name)
			}
			if all {
				http.Error(w, said.String(), http.StatusServiceUnavailable)
				return
			}
		}
		health(w, r)
		_, _ = w.Write([]byte(said.String()))
	}
}

// pages serves /metrics, /healthz and /readyz.
func pages(registry Registry, endpoint rpc.Endpoint, ready *readiness) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.HandleFunc("GET /healthz", healthy(endpoint))
	mux.HandleFunc("GET /readyz", ready.handler(endpoint))
	return mux
}

// serveHTTP serves until ctx ends. One answer may take as long as longest says, for ever
// if that is 0.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, longest time.Duration) error {
	server := &http.Server{
		Handler:           handler,
		BaseContext:       func(net.Listener) context.Context { return ctx }, // who records a profile only waits
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      longest,
		IdleTimeout:       2 * time.Minute,
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		//nolint:contextcheck // ctx has ended; what is being scraped may finish.
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(grace)
	})
	err := server.Serve(listener)
	if stop() {
		return fmt.Errorf("serve HTTP on %s: %w", listener.Addr(), err)
	}
	<-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP on %s: %w", listener.Addr(), err)
	}
	return nil
}
