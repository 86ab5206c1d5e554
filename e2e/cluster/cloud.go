package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// cloudPatience is how long devcloud may take to be ready; it takes 0.1 s.
const cloudPatience = time.Minute

func cloudURL() string { return fmt.Sprintf("http://%s:%d", hostIP, devcloudPort) }

func (p Paths) devcloud() process {
	args := []string{
		"--state-dir=" + p.cloudState(), fmt.Sprintf("--listen=%s:%d", hostIP, devcloudPort),
		"--cloud-conf=" + p.cloudConf(), "--latency=fast", "--verbose",
	}
	for _, s := range specs() {
		args = append(args, "--server="+s.name+"="+s.zone)
	}
	return p.component("devcloud", args...)
}

// startCloud starts devcloud and returns the nodes that are its servers.
func (p Paths) startCloud(ctx context.Context, g groups) ([]Node, error) {
	client := admin.NewClient(cloudURL())
	var servers []admin.Server
	err := g.ensure(ctx, p.devcloud(), cloudPatience, func(ctx context.Context) (err error) {
		servers, err = client.Servers(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var nodes []Node
	for _, s := range specs() {
		for _, server := range servers {
			if server.Name == s.name {
				nodes = append(nodes, Node{Name: s.name, Zone: s.zone, Address: s.address(), ServerID: server.ID})
			}
		}
	}
	if len(nodes) != len(specs()) {
		return nil, fmt.Errorf("devcloud has %d of %d servers", len(nodes), len(specs()))
	}
	return nodes, nil
}

// wipeCloud removes what devcloud has left: loop devices and volumes. Its process
// has ended.
func (p Paths) wipeCloud() error { return devcloud.Wipe(p.cloudState()) }
