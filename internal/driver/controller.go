package driver

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/events"
	"github.com/cinder-csi/cinder-csi/internal/identity"
	"github.com/cinder-csi/cinder-csi/internal/inspect"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/nodestart"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// countOrphansEvery is the pause between two counts, each of which reads Kubernetes once.
const countOrphansEvery = 10 * time.Minute

// controllerRole is the controller service and the clouds behind it.
type controllerRole struct {
	server *controller.Server
	clouds *clouds
	// kubernetes is nil where nothing of Kubernetes is asked for.
	kubernetes *kube.Client
	// annotations reads those of PersistentVolumeClaims; nil where that is not asked for.
	annotations func(context.Context, kube.Resource, string, string) (map[string]string, error)
	// stop ends what runs in the background, which background waits for.
	stop       context.CancelFunc
	background sync.WaitGroup
}

// newController asks no cloud. Its errors are about the configuration, whose files had the
// fingerprint seen when they were read.
func newController(cfg Config, conf openstack.Config, seen string, logger *zap.Logger, registry prometheus.Registerer) (*controllerRole, error) {
	if cfg.Cluster == "" {
		logger.Warn("--cluster is empty: volumes and snapshots are not created, since those of other clusters in the project could not be told from them; give each cluster a name")
	}
	allowed, err := openstack.ParseAddresses(cfg.SecretAuthURLs)
	if err != nil {
		return nil, fmt.Errorf("--secret-auth-urls: %w", err)
	}
	open := func(name string, section openstack.CloudConfig) (*openstack.Client, error) {
		return openstack.New(section, openstack.Options{
			Cloud:                    name,
			Version:                  cfg.Version,
			UserAgent:                cfg.UserAgent,
			IgnoreVolumeMicroversion: conf.BlockStorage.IgnoreVolumeMicroversion,
			Registerer:               registry,
			Limits:                   cfg.Limits,
			SecretAddresses:          allowed,
			LoginTimeout:             cfg.LoginTimeout,
		})
	}
	ctx, stop := context.WithCancel(context.Background())
	role := &controllerRole{stop: stop, clouds: newClouds(open, volumes.Options{Cluster: cfg.Cluster, Metadata: cfg.ExtraTags, Logger: logger, Metrics: volumes.NewMetrics(registry)}, allowed, cmp.Or(cfg.MaxSecretClouds, maxSecretClouds), accountIdle)}
	if err := role.start(cfg, conf); err != nil {
		role.close()
		return nil, err
	}
	role.server = controller.New(controller.Config{
		Annotations:    role.annotations,
		TagPrefix:      cfg.TagAnnotationPrefix,
		ExtraTags:      cfg.ExtraTags,
		Source:         role.clouds,
		Incomplete:     !allowed.Off(),
		WithTopology:   cfg.Topology,
		WellKnownZone:  cfg.WellKnownZone,
		IgnoreVolumeAZ: conf.BlockStorage.IgnoreVolumeAZ,

		AllowUnknownParameters: cfg.AllowUnknownParameters,
	})
	changes := &reloader{paths: cfg.CloudConfig, clouds: role.clouds, logger: logger, started: conf.BlockStorage, seen: seen, results: newReloads()}
	if err := registry.Register(changes.results); err != nil {
		role.close()
		return nil, fmt.Errorf("register the metric of reloads: %w", err)
	}
	changes.run(cmp.Or(cfg.ReloadEvery, reloadEvery))
	if err := role.attend(ctx, cfg, logger, registry, changes.refusals); err != nil {
		role.close()
		return nil, err
	}
	return role, nil
}

// start opens the clouds of cloud.conf, and the way to Kubernetes where something of it
// is asked for.
func (r *controllerRole) start(cfg Config, conf openstack.Config) (err error) {
	for _, name := range cfg.CloudNames {
		section, err := conf.Cloud(name)
		if err != nil {
			return err
		}
		if err := r.clouds.add(name, section); err != nil {
			return err
		}
	}
	if !cfg.PVCAnnotations && cfg.StartupTaint == "" && !cfg.Events && !cfg.CountOrphans {
		return nil
	}
	if r.kubernetes, err = kube.New(cfg.Kubernetes); err != nil {
		return fmt.Errorf("--pvc-annotations, --startup-taint, --events and --count-orphans need Kubernetes: %w", err)
	}
	if cfg.PVCAnnotations {
		r.annotations = r.kubernetes.Annotations
	}
	return nil
}

// attend does until ctx ends what nobody calls for: it takes the start-up taint off
// nodes, tells in events what is wrong, and counts what Kubernetes has no object of.
func (r *controllerRole) attend(ctx context.Context, cfg Config, logger *zap.Logger, registry prometheus.Registerer, refusals func() map[string]error) error {
	switch {
	case !cfg.CountOrphans:
	case cfg.Cluster == "":
		logger.Warn("--count-orphans counts nothing without --cluster: what bears no cluster's name may be another cluster's")
	default:
		counter := inspect.Counter{Kubernetes: r.kubernetes, Lists: r.clouds.lastLists, Every: cmp.Or(cfg.CountOrphansEvery, countOrphansEvery), Logger: logger}
		if err := counter.Register(registry); err != nil {
			return fmt.Errorf("--count-orphans: %w", err)
		}
		r.background.Go(func() { counter.Run(ctx) })
	}
	if cfg.StartupTaint != "" {
		r.background.Go(func() {
			if err := nodestart.Run(ctx, nodestart.Config{
				Kubernetes: r.kubernetes, Driver: identity.DriverName, Taint: cfg.StartupTaint, Logger: logger,
			}); err != nil {
				logger.Error("start-up taints are not removed", zap.Error(err))
			}
		})
	}
	if cfg.Events {
		about := eventObject(os.Getenv)
		instance, err := os.Hostname()
		if err != nil {
			instance = about.Name
		}
		r.background.Go(func() {
			events.Run(ctx, events.Config{
				Kubernetes: r.kubernetes, About: about, Component: identity.DriverName, Instance: instance, Logger: logger,
				Look: func() []events.Notice { return notices(r.clouds.Health(), refusals(), time.Now()) },
			})
		})
	}
	return nil
}

func (r *controllerRole) register(registrar grpc.ServiceRegistrar) {
	csi.RegisterControllerServer(registrar, r.server)
}

func (r *controllerRole) close() {
	r.stop()
	r.background.Wait()
	r.clouds.close()
	if r.kubernetes != nil {
		r.kubernetes.Close()
	}
}
