package inspect

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

// loginTimeout bounds the login at one cloud: somebody waits for the answer.
const loginTimeout = 30 * time.Second

// Options say where to look.
type Options struct {
	// Version of the plugin, for the user agent.
	Version string
	// CloudConfig are cloud.conf files, as the plugin has them. None: the environment and
	// clouds.yaml of OpenStack's clients.
	CloudConfig []string
	// CloudNames are the clouds of CloudConfig to look at; none: all of them.
	CloudNames []string
	// Kubernetes is how the cluster is reached.
	Kubernetes kube.Options
}

// Open reaches all sides. What can't be reached says why in the sources. done has to be
// called when they are not used any more. The error is about the configuration.
func Open(ctx context.Context, opts Options) (from Sources, done func(), err error) {
	sections, err := opts.sections()
	if err != nil {
		return from, nil, err
	}
	from.Kubernetes, from.KubernetesErr = kube.New(opts.Kubernetes)
	var ends []func()
	if from.Kubernetes != nil {
		ends = append(ends, from.Kubernetes.Close)
	}
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		one := Cloud{Name: cmp.Or(name, "default")}
		client, err := openstack.Connect(ctx, sections[name], openstack.Options{Version: opts.Version, LoginTimeout: loginTimeout})
		if one.Err = err; err == nil {
			one.Client = client
			ends = append(ends, client.Close)
		}
		from.Clouds = append(from.Clouds, one)
	}
	return from, func() {
		for _, end := range ends {
			end()
		}
	}, nil
}

// sections are the configurations of the clouds by their names.
func (o Options) sections() (map[string]openstack.CloudConfig, error) {
	if len(o.CloudConfig) == 0 {
		return map[string]openstack.CloudConfig{"": {UseClouds: true}}, nil
	}
	conf, err := openstack.ReadConfig(o.CloudConfig...)
	if err != nil {
		return nil, err
	}
	names := o.CloudNames
	if len(names) == 0 {
		names = slices.Collect(maps.Keys(conf.Global))
	}
	sections := make(map[string]openstack.CloudConfig)
	for _, name := range names {
		if sections[name], err = conf.Cloud(name); err != nil {
			return nil, err
		}
	}
	return sections, nil
}
