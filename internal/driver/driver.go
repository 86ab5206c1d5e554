package driver

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/cinder-csi/cinder-csi/internal/identity"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/rpc"
)

// Run serves the configured roles until ctx ends. What is wrong with the
// configuration is returned at once, in one line that names the file and the key. What
// is wrong with a cloud is in the log, in /readyz and in the answers of calls for it.
func Run(ctx context.Context, cfg Config, logger *zap.Logger) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(cfg))

	var conf openstack.Config
	seen := openstack.Fingerprint(cfg.CloudConfig)
	if len(cfg.CloudConfig) > 0 {
		if conf, err = openstack.ReadConfig(cfg.CloudConfig...); err != nil {
			return err
		}
		logUnused(logger, conf)
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
		defer func() { err = errors.Join(err, node.close()) }()
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
	for role, here := range map[string]bool{"controller": cfg.Controller, "node": cfg.Node} {
		if here {
			info.WithLabelValues(cfg.Version, cfg.Revision, runtime.Version(), role).Set(1)
		}
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

func serve(ctx context.Context, cfg Config, logger *zap.Logger, registry *prometheus.Registry, ready *readiness, services []func(grpc.ServiceRegistrar)) error {
	server := rpc.NewServer(rpc.Options{Logger: logger, Metrics: registry}, func(r grpc.ServiceRegistrar) {
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
	group, ctx := errgroup.WithContext(ctx)
	if cfg.HTTPEndpoint != "" {
		web, err := listenHTTP(ctx, cfg.HTTPEndpoint)
		if err != nil {
			_ = listener.Close()
			return err
		}
		group.Go(func() error { return serveHTTP(ctx, web, registry, endpoint, ready) })
	}
	group.Go(func() error { return server.Serve(ctx, listener) })
	if cfg.KubeletRegistrationPath != "" {
		group.Go(func() error { return register(ctx, cfg, endpoint, logger, registry, &ready.registered) })
	}
	logger.Info("serving", zap.String("version", cfg.Version), zap.Stringer("endpoint", endpoint),
		zap.Bool("controller", cfg.Controller), zap.Bool("node", cfg.Node))
	return group.Wait()
}
