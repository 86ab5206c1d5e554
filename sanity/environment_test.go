package sanity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
	"github.com/cinder-csi/cinder-csi/internal/driver"
)

// attachLimit is how many volumes the node announces that it takes.
const attachLimit = 6

// environment is a cloud, a controller, and a node plugin for each filesystem
// that is the default one.
type environment struct {
	dir                                         string
	controllerSocket, nodeSocket, xfsNodeSocket string

	cloud   *devcloud.Cloud
	cancel  context.CancelFunc
	drivers []chan error
}

func start() (_ *environment, err error) {
	dir, err := os.MkdirTemp("", "cinder-csi-sanity-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &environment{
		dir:              dir,
		cancel:           cancel,
		controllerSocket: filepath.Join(dir, "controller.sock"),
		nodeSocket:       filepath.Join(dir, "node.sock"),
		xfsNodeSocket:    filepath.Join(dir, "node-xfs.sock"),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.stop())
		}
	}()
	behaviour := state.DefaultBehaviour()
	behaviour.MaxDisks = attachLimit + 1 // Nova counts the root disk.
	e.cloud, err = devcloud.Start(ctx, devcloud.Config{
		StateDir:  filepath.Join(dir, "cloud"),
		Servers:   []devcloud.Server{{Name: "node1", Zone: "az1"}},
		Behaviour: &behaviour,
		Disks:     devcloud.DisksLoop,
		Ephemeral: true,
	})
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "cloud.conf")
	content := fmt.Sprintf("%s\n[BlockStorage]\nnode-volume-attach-limit = %d\n", e.cloud.CloudConf(), attachLimit)
	if err := os.WriteFile(conf, []byte(content), 0o600); err != nil {
		return nil, err
	}
	logger, err := logTo(filepath.Join(dir, "driver.log"))
	if err != nil {
		return nil, err
	}
	e.run(ctx, driver.Config{Endpoint: "unix://" + e.controllerSocket, Controller: true, Cluster: "sanity", CloudConfig: []string{conf}}, logger)
	e.run(ctx, e.node(e.nodeSocket, "ext4", conf), logger)
	e.run(ctx, e.node(e.xfsNodeSocket, "xfs", conf), logger)
	for _, socket := range []string{e.controllerSocket, e.nodeSocket, e.xfsNodeSocket} {
		if err := e.awaitReady(ctx, socket); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (e *environment) node(socket, fsType, conf string) driver.Config {
	return driver.Config{
		Endpoint:             "unix://" + socket,
		Node:                 true,
		CloudConfig:          []string{conf},
		DefaultFSType:        fsType,
		DevelopmentDeviceDir: e.cloud.DeviceDir("node1"),
	}
}

func (e *environment) run(ctx context.Context, cfg driver.Config, logger *zap.Logger) {
	cfg.Version, cfg.Topology, cfg.CloudNames = "sanity", true, []string{""}
	if cfg.DefaultFSType == "" {
		cfg.DefaultFSType = "ext4"
	}
	done := make(chan error, 1)
	e.drivers = append(e.drivers, done)
	go func() { done <- driver.Run(ctx, cfg, logger) }()
}

func (e *environment) awaitReady(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{}); err != nil {
		return errors.Join(fmt.Errorf("%s does not answer: %w", socket, err), e.early())
	}
	return nil
}

// early returns why a driver ended before it was told to.
func (e *environment) early() error {
	for _, done := range e.drivers {
		select {
		case err := <-done:
			done <- nil
			return err
		default:
		}
	}
	return nil
}

// stop ends everything, and fails if anything is left in the cloud or on the
// machine: the suite cleans up through CSI, and so can the driver.
func (e *environment) stop() error {
	e.cancel()
	var errs []error
	for _, done := range e.drivers {
		errs = append(errs, <-done)
	}
	if e.cloud != nil {
		errs = append(errs, e.cloud.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w (logs are in %s)", err, e.dir)
	}
	return os.RemoveAll(e.dir)
}

func logTo(path string) (*zap.Logger, error) {
	config := zap.NewProductionConfig()
	config.Level = zap.NewAtomicLevelAt(zap.DebugLevel)
	config.Sampling = nil
	config.OutputPaths = []string{path}
	return config.Build()
}
