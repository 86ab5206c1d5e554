package driver

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/node"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/rpc"
)

// nodeRole is the node service and the filesystems it works on.
type nodeRole struct {
	server *node.Server
	fs     *filesystem.FS
	finder blockdev.Finder
	// instance is the server that this process runs on.
	instance *instance.Server
}

// newNode needs no cloud and no credentials: of cloud.conf it reads where to
// learn who this server is, and how many volumes it may have.
func newNode(cfg Config, conf openstack.Config, metrics prometheus.Registerer) *nodeRole {
	fs := filesystem.New(filesystem.Options{Metrics: metrics})
	finder, server := disks(cfg, conf.Metadata)
	return &nodeRole{fs: fs, finder: finder, instance: server, server: node.New(node.Config{
		Identity:            identify(cfg, server),
		Finder:              finder,
		Deployed:            cfg.DevelopmentDeviceDir == "",
		FS:                  fs,
		WithTopology:        cfg.Topology,
		ZoneFallback:        cfg.ZoneFallback,
		WellKnownZone:       cfg.WellKnownZone,
		AdditionalTopology:  cfg.AdditionalTopology,
		AttachLimit:         conf.BlockStorage.NodeVolumeAttachLimit,
		ReservedAttachments: cfg.ReservedAttachments,
		DefaultFSType:       cfg.DefaultFSType,
		NodeName:            cfg.nodeName(),
		Metrics:             metrics,
	})}
}

// disks returns how volumes are found, and this server: each asks the other what the
// server has attached.
func disks(cfg Config, metadata openstack.Metadata) (blockdev.Finder, *instance.Server) {
	opts := instance.Options{
		DevDir:      cfg.DevelopmentDeviceDir,
		MetadataURL: cfg.MetadataURL,
		Timeout:     time.Duration(metadata.RequestTimeout),
	}
	for _, source := range metadata.Order() {
		opts.Order = append(opts.Order, instance.Source(source))
	}
	if cfg.DevelopmentDeviceDir != "" {
		return &blockdev.Loop{DevDir: cfg.DevelopmentDeviceDir}, instance.New(opts)
	}
	system := &blockdev.System{}
	opts.Disks = system.NoVolumes
	server := instance.New(opts)
	system.Locate = func(ctx context.Context, volumeID string) (blockdev.Location, error) {
		found, live, err := server.DiskAddresses(ctx, volumeID)
		at := blockdev.Location{Live: live}
		for _, d := range found {
			at.Addresses = append(at.Addresses, d.Bus+"-"+d.Address)
		}
		return at, err
	}
	return system, server
}

// identify asks the cloud who this server is. The node id of the command line
// is the last resort, and only if it is a UUID: manifests of old releases pass
// the node's name there, which Nova does not know.
func identify(cfg Config, server *instance.Server) func(context.Context) (instance.Identity, error) {
	return func(ctx context.Context) (instance.Identity, error) {
		id, err := server.Identify(ctx)
		if given, gerr := instance.ParseID(cfg.NodeID); err != nil && gerr == nil && ctx.Err() == nil {
			return instance.Identity{ServerID: given}, nil
		}
		return id, err
	}
}

// nodeName is what Kubernetes calls the node.
func (c *Config) nodeName() string {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "NODE"
	}
	return cmp.Or(c.NodeName, hostname)
}

func (r *nodeRole) register(registrar grpc.ServiceRegistrar) {
	csi.RegisterNodeServer(registrar, r.server)
}

// close waits a little for mkfs and fsck that are still running: they run to
// their end in any case, but in a container they would be killed with it.
func (r *nodeRole) close(logger *zap.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), rpc.DefaultGrace)
	defer cancel()
	if err := r.fs.Drain(ctx); err != nil {
		logger.Warn("the plugin ends before all programs that it has started", zap.Error(err))
	}
}
