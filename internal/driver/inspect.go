package driver

import (
	"context"
	"net"
	"path/filepath"

	"github.com/cinder-csi/cinder-csi/internal/identity"
	"github.com/cinder-csi/cinder-csi/internal/nodeinspect"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/registration"
)

// InspectNode looks at this node with the parts that the node role of that configuration
// has. It fails where cloud.conf can't be read. Plugin says how the plugin that runs here
// was found, empty if none was; kubeletDir is the kubelet's directory, by default the one
// that the plugin is registered with.
func InspectNode(ctx context.Context, cfg Config, plugin, kubeletDir string) (*nodeinspect.Answer, error) {
	var conf openstack.Config
	if len(cfg.CloudConfig) > 0 {
		var err error
		if conf, err = openstack.ReadConfig(cfg.CloudConfig...); err != nil {
			return nil, err
		}
	}
	opts := nodeinspect.Options{
		Driver: identity.DriverName, NodeName: cfg.nodeName(), KubeletDir: kubeletDir, Plugin: plugin,
		MetricsURL: metricsURL(cfg.HTTPEndpoint),
	}
	if path := cfg.KubeletRegistrationPath; path != "" {
		opts.RegistrationSocket = registration.Config{Driver: identity.DriverName, Dir: cfg.PluginRegistrationPath}.Path()
		if kubeletDir == "" { // plugins/DRIVER/csi.sock below it
			opts.KubeletDir = filepath.Dir(filepath.Dir(filepath.Dir(path)))
		}
	}
	if opts.KubeletDir == "" {
		opts.KubeletDir = "/var/lib/kubelet"
	}
	role := newNode(cfg, conf, nil)
	return nodeinspect.Look(ctx, nodeinspect.Parts{Node: role.server, Finder: role.finder, FS: role.fs, Instance: role.instance}, opts), nil
}

// metricsURL returns where a plugin on this machine serves metrics, if it listens there.
func metricsURL(endpoint string) string {
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/metrics"
}
