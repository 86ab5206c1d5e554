package driver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// controllerRole is the controller service and the clouds behind it.
type controllerRole struct {
	server  *controller.Server
	clients []*openstack.Client
}

// newController connects to every cloud that is named; one that cannot be
// reached is an error, since volumes of it could not be served.
func newController(ctx context.Context, cfg Config, logger *zap.Logger, registry prometheus.Registerer) (*controllerRole, error) {
	conf, err := openstack.ReadConfig(cfg.CloudConfig...)
	if err != nil {
		return nil, err
	}
	role := &controllerRole{}
	clouds := map[string]*volumes.Service{}
	for _, name := range cfg.CloudNames {
		client, err := connect(logging.Into(ctx, logger), conf, name, cfg, registry)
		if err != nil {
			role.close()
			return nil, err
		}
		role.clients = append(role.clients, client)
		clouds[name] = volumes.New(client, volumes.Options{Cluster: cfg.Cluster, Logger: logger})
	}
	role.server = controller.New(controller.Config{
		Clouds:         clouds,
		Cluster:        cfg.Cluster,
		WithTopology:   cfg.Topology,
		IgnoreVolumeAZ: conf.BlockStorage.IgnoreVolumeAZ,
		Version:        cfg.Version,
	})
	return role, nil
}

func connect(ctx context.Context, conf openstack.Config, name string, cfg Config, registry prometheus.Registerer) (*openstack.Client, error) {
	section, err := conf.Cloud(name)
	if err != nil {
		return nil, err
	}
	return openstack.Connect(ctx, section, openstack.Options{
		Version:                  cfg.Version,
		UserAgent:                cfg.UserAgent,
		IgnoreVolumeMicroversion: conf.BlockStorage.IgnoreVolumeMicroversion,
		Registerer:               registry,
	})
}

func (r *controllerRole) register(registrar grpc.ServiceRegistrar) {
	csi.RegisterControllerServer(registrar, r.server)
}

func (r *controllerRole) close() {
	for _, c := range r.clients {
		c.Close()
	}
}
