package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cinder-csi/cinder-csi/internal/rpc"
)

func listenHTTP(ctx context.Context, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--http-endpoint: %w", err)
	}
	return l, nil
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

// readiness answers whether the plugin is of use: healthy, and registered with
// the kubelet where it registers itself. An update that the kubelets refuse then
// stops at the first node; a restart would make nothing better.
func readiness(endpoint rpc.Endpoint, ready func() bool) http.HandlerFunc {
	health := healthy(endpoint)
	return func(w http.ResponseWriter, r *http.Request) {
		if !ready() {
			http.Error(w, "the kubelet has not registered the driver; the log has what it said, if it came at all", http.StatusServiceUnavailable)
			return
		}
		health(w, r)
	}
}

// serveHTTP serves /metrics, /healthz and /readyz until ctx ends.
func serveHTTP(ctx context.Context, listener net.Listener, registry *prometheus.Registry, endpoint rpc.Endpoint, ready func() bool) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.HandleFunc("GET /healthz", healthy(endpoint))
	mux.HandleFunc("GET /readyz", readiness(endpoint, ready))
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
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
		return fmt.Errorf("serve metrics on %s: %w", listener.Addr(), err)
	}
	<-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", listener.Addr(), err)
	}
	return nil
}
