// Package rpc is the gRPC server of the plugin: the listener, what surrounds
// every call (recovery, request id, log, metrics) and the way to stop. It
// knows nothing of storage.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
)

// DefaultGrace is how long a stopping server waits for its calls, which end as soon as
// they do nothing but wait. Those that don't are cut off then; they are safe to repeat.
const DefaultGrace = 20 * time.Second

// Options configure a Server.
type Options struct {
	// Logger receives a line per call; nil discards them.
	Logger *zap.Logger
	// Metrics is where the server's own metrics are registered; nil registers none.
	Metrics prometheus.Registerer
	// Tracing gives each call a span, below the one that its caller names.
	Tracing bool
	// Grace bounds how long Serve waits for running calls when it is told to
	// stop; 0 means DefaultGrace.
	Grace time.Duration
}

// Server serves CSI services on one endpoint.
type Server struct {
	grpc  *grpc.Server
	log   *zap.Logger
	grace time.Duration
	// interrupt ends the contexts of running calls.
	interrupt context.CancelFunc
}

// NewServer makes a server; register hangs the services in. Two servers can't have the
// same Options.Metrics.
func NewServer(opts Options, register func(grpc.ServiceRegistrar)) *Server {
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	if opts.Grace == 0 {
		opts.Grace = DefaultGrace
	}
	stopping, interrupt := context.WithCancel(context.Background())
	s := &Server{log: opts.Logger, grace: opts.Grace, interrupt: interrupt}
	metrics := newMetrics()
	if opts.Metrics != nil {
		opts.Metrics.MustRegister(metrics)
	}
	s.grpc = grpc.NewServer(append(tracing(opts.Tracing),
		grpc.ChainUnaryInterceptor(
			identify(opts.Logger),
			metrics.UnaryServerInterceptor(),
			// Before the log, in which calls that a stop has ended are nobody's fault.
			endAtStop(stopping),
			logCalls,
			recoverPanics,
		),
		// A sidecar that vanished without closing its connection is noticed
		// within a minute, and its calls are cancelled.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 40 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)...)
	register(s.grpc)
	metrics.InitializeMetrics(changing{s.grpc})
	return s
}

// Serve serves on the listener until ctx ends; then it refuses new calls, ends the contexts
// of running ones, gives them the grace period and returns. The listener, and a unix
// socket's file, are gone afterwards.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.grpc.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	s.stop()
	if err := <-failed; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return nil
}

func (s *Server) stop() {
	s.interrupt()
	s.log.Info("stopping: waiting for running calls", zap.Duration("atMost", s.grace))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	timer := time.NewTimer(s.grace)
	defer timer.Stop()
	select {
	case <-stopped:
	case <-timer.C:
		s.log.Warn("cutting off calls that are still running; their callers repeat them")
		// GracefulStop goes on waiting for a call that nothing ends, such as one at a disk
		// that hangs.
		s.grpc.Stop()
	}
}

// tracing returns what gives calls a span: all but those of probes.
func tracing(on bool) []grpc.ServerOption {
	if !on {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool {
		return path.Dir(info.FullMethodName) != "/"+csi.Identity_ServiceDesc.ServiceName
	})))}
}
