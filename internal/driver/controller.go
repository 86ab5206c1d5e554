package driver

import (
	"cmp"
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/cinder-csi/cinder-csi/internal/claims"
	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// controllerRole is the controller service and the clouds behind it.
type controllerRole struct {
	server  *controller.Server
	clients map[string]*openstack.Client
	tenants *tenants
	// claims reads PersistentVolumeClaims; nil where that is not asked for.
	claims *claims.Client
	// stop ends the goroutine that looks for changed credentials.
	stop func()
}

// newController connects to every cloud that is named; one that cannot be
// reached is an error, since volumes of it could not be served.
func newController(ctx context.Context, cfg Config, logger *zap.Logger, registry prometheus.Registerer) (*controllerRole, error) {
	seen := openstack.Fingerprint(cfg.CloudConfig)
	conf, err := openstack.ReadConfig(cfg.CloudConfig...)
	if err != nil {
		return nil, err
	}
	connect := func(ctx context.Context, section openstack.CloudConfig) (*openstack.Client, error) {
		return openstack.Connect(logging.Into(ctx, logger), section, openstack.Options{
			Version:                  cfg.Version,
			UserAgent:                cfg.UserAgent,
			IgnoreVolumeMicroversion: conf.BlockStorage.IgnoreVolumeMicroversion,
			Registerer:               registry,
		})
	}
	opts := volumes.Options{Cluster: cfg.Cluster, Logger: logger}
	role := &controllerRole{tenants: newTenants(connect, opts, tenantIdle), clients: map[string]*openstack.Client{}, stop: func() {}}
	clouds := map[string]*volumes.Service{}
	for _, name := range cfg.CloudNames {
		section, err := conf.Cloud(name)
		if err == nil {
			var client *openstack.Client
			if client, err = connect(ctx, section); err == nil {
				role.clients[name] = client
				clouds[name] = volumes.New(client, opts)
			}
		}
		if err != nil {
			role.close()
			return nil, err
		}
	}
	annotations, err := role.readClaims(cfg)
	if err != nil {
		role.close()
		return nil, err
	}
	role.server = controller.New(controller.Config{
		Annotations:    annotations,
		Clouds:         clouds,
		Open:           role.tenants.use,
		Tenants:        role.listTenants,
		Cluster:        cfg.Cluster,
		WithTopology:   cfg.Topology,
		IgnoreVolumeAZ: conf.BlockStorage.IgnoreVolumeAZ,
		Version:        cfg.Version,

		AllowUnknownParameters: cfg.AllowUnknownParameters,
	})
	role.reload(ctx, &reloader{
		paths: cfg.CloudConfig, clients: role.clients, every: cmp.Or(cfg.ReloadEvery, reloadEvery), logger: logger,
		started: conf.BlockStorage, seen: seen,
	})
	return role, nil
}

// listTenants returns the tenants that are no configured cloud under another
// name.
func (r *controllerRole) listTenants() ([]controller.Tenant, func()) {
	projects := make(map[string]bool, len(r.clients))
	for _, client := range r.clients {
		projects[client.Project()] = true
	}
	return r.tenants.all(projects)
}

// readClaims returns what reads the annotations of claims, nil where that is not
// asked for.
func (r *controllerRole) readClaims(cfg Config) (func(context.Context, string, string) (map[string]string, error), error) {
	if !cfg.PVCAnnotations {
		return nil, nil
	}
	var err error
	if r.claims, err = claims.New(cfg.Kubernetes); err != nil {
		return nil, fmt.Errorf("--pvc-annotations: %w", err)
	}
	return r.claims.Annotations, nil
}

// reload looks for changed credentials until the role is closed.
func (r *controllerRole) reload(ctx context.Context, changes *reloader) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		changes.run(ctx)
	}()
	r.stop = func() {
		cancel()
		<-done
	}
}

func (r *controllerRole) register(registrar grpc.ServiceRegistrar) {
	csi.RegisterControllerServer(registrar, r.server)
}

func (r *controllerRole) close() {
	r.stop()
	r.tenants.close()
	if r.claims != nil {
		r.claims.Close()
	}
	for _, c := range r.clients {
		c.Close()
	}
}
