package driver

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/cinder-csi/cinder-csi/internal/admin"
	"github.com/cinder-csi/cinder-csi/internal/identity"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/rpc"
	"github.com/cinder-csi/cinder-csi/internal/tracing"
)

// Run serves the configured roles until ctx ends. What is wrong with the
// configuration is returned at once, in one line that names the file and the key. What
// is wrong with a cloud is in the log, in /readyz and in the answers of calls for it.
func Run(ctx context.Context, cfg Config, logger *zap.Logger) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	registry := cfg.Metrics
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(cfg))

	var conf openstack.Config
	seen := openstack.Fingerprint(cfg.CloudConfig)
	if len(cfg.CloudConfig) > 0 {
		if conf, err = openstack.ReadConfig(cfg.CloudConfig...); err != nil {
			return err
		}
		logUnused(logger, conf)
	}
	if cfg.Tracing {
		stop, err := tracing.Start(ctx, tracing.Options{Version: cfg.Version, Role: strings.Join(cfg.roles(), ","), Logger: logger})
		if err != nil {
			return fmt.Errorf("--tracing: %w", err)
		}
		defer stop()
	}
	services := []func(grpc.ServiceRegistrar){func(r grpc.ServiceRegistrar) {
		csi.RegisterIdentityServer(r, identity.New(identity.Config{Version: cfg.Version, Topology: cfg.Topology}))
	}}
	ready := readiness{}
	if cfg.Controller {
		controller, err := newController(cfg, conf, seen, logger, registry)
		if err != nil {
			return err
		}
		defer controller.close()
		services = append(services, controller.register)
		ready.clouds = controller.clouds
	}
	if cfg.Node {
		node := newNode(cfg, conf, registry)
		defer node.close(logger)
		services = append(services, node.register)
	}
	return serve(ctx, cfg, logger, registry, &ready, services)
}

// buildInfo tells what runs here: a series for each role.
func buildInfo(cfg Config) prometheus.Collector {
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "cinder_csi_build_info",
		Help: "1, with the version and the revision of the plugin, the Go that built it, and a role that it has.",
	}, []string{"version", "revision", "goversion", "role"})
	for _, role := range cfg.roles() {
		info.WithLabelValues(cfg.Version, cfg.Revision, runtime.Version(), role).Set(1)
	}
	return info
}

// logUnused logs the keys of cloud.conf that have no effect.
func logUnused(logger *zap.Logger, conf openstack.Config) {
	for _, unused := range conf.Unused() {
		logger.Warn("a part of cloud.conf has no effect", zap.String("file", unused.File), zap.String("section", unused.Section),
			zap.String("key", unused.Key), zap.String("reason", unused.Reason))
	}
}

// serve listens and serves until ctx ends.
func serve(ctx context.Context, cfg Config, logger *zap.Logger, registry Registry, ready *readiness, services []func(grpc.ServiceRegistrar)) error {
	server := rpc.NewServer(rpc.Options{Logger: logger, Metrics: registry, Tracing: cfg.Tracing}, func(r grpc.ServiceRegistrar) {
		for _, register := range services {
			register(r)
		}
	})
	endpoint, err := rpc.ParseEndpoint(cfg.Endpoint)
	if err != nil {
		return fmt.Errorf("--endpoint: %w", err)
	}
	listener, err := endpoint.Listen(ctx)
	if err != nil {
		return err
	}
	ready.registers = cfg.KubeletRegistrationPath != ""
	web, administration, err := listenBeside(ctx, cfg, logger)
	if err != nil {
		_ = listener.Close()
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if web != nil {
		const longest = 30 * time.Second
		group.Go(func() error { return serveHTTP(ctx, web, pages(registry, endpoint, ready), longest) })
	}
	if administration != nil {
		group.Go(func() error { return serveHTTP(ctx, administration, admin.Handler(*cfg.LogLevel, logger), 0) })
	}
	group.Go(func() error { return server.Serve(ctx, listener) })
	if cfg.KubeletRegistrationPath != "" {
		group.Go(func() error { return register(ctx, cfg, endpoint, logger, registry, &ready.registered) })
	}
	logger.Info("serving", zap.String("version", cfg.Version), zap.Stringer("endpoint", endpoint), zap.Strings("roles", cfg.roles()))
	return group.Wait()
}
