package driver

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/identity"
	"github.com/cinder-csi/cinder-csi/internal/registration"
	"github.com/cinder-csi/cinder-csi/internal/rpc"
)

// register makes the kubelet know the plugin, once the plugin answers: the
// kubelet calls NodeGetInfo as soon as it sees the registration socket.
func register(ctx context.Context, cfg Config, endpoint rpc.Endpoint, logger *zap.Logger, metrics prometheus.Registerer, registered *atomic.Bool) error {
	if err := rpc.Probe(ctx, endpoint); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop, or another part of the plugin has failed and says why
		}
		return err
	}
	return registration.Serve(ctx, registration.Config{
		Driver:     identity.DriverName,
		NodeName:   cfg.nodeName(),
		Endpoint:   cfg.KubeletRegistrationPath,
		Dir:        cfg.PluginRegistrationPath,
		Logger:     logger,
		Metrics:    metrics,
		Registered: registered.Store,
	})
}
