package tests

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"

	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cinder-csi/cinder-csi/e2e/cluster"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// What the driver is called, by itself and by the chart.
const (
	driverName = "cinder.csi.openstack.org"
	zoneKey    = "topology.cinder.csi.openstack.org/zone"
	hostKey    = "kubernetes.io/hostname"

	driverNamespace = "kube-system"
	controllerName  = "cinder-csi-controller"
	nodeName        = "cinder-csi-node"
)

// environment is what all scenarios share: the cluster, its cloud, and classes
// that were made for this run.
type environment struct {
	cluster   *cluster.Cluster
	config    *rest.Config
	kube      kubernetes.Interface
	snapshots snapshots.Interface
	cloud     *admin.Client
	// id tells what belongs to this run in the names of cluster-wide objects.
	id string
}

// connected returns the environment; it is made once.
var connected = sync.OnceValues(connect)

func connect() (*environment, error) {
	c, err := cluster.Load()
	if err != nil {
		return nil, fmt.Errorf("no cluster to test in, make one with 'make cluster-up': %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", c.Kubeconfig, err)
	}
	config.QPS, config.Burst = 100, 200 // the tests shall never wait for themselves
	env := &environment{
		cluster: c, config: config, cloud: admin.NewClient(c.CloudURL),
		id: strings.ToLower(rand.Text()[:5]),
	}
	if env.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if env.snapshots, err = snapshots.NewForConfig(config); err != nil {
		return nil, err
	}
	return env, nil
}

// setUp connects and makes the classes of this run; it returns how to remove them.
func setUp(ctx context.Context) (func(context.Context) error, error) {
	env, err := connected()
	if err != nil {
		return nil, err
	}
	if err := env.makeClasses(ctx); err != nil {
		return nil, fmt.Errorf("making storage classes: %w", err)
	}
	return env.removeClasses, nil
}

// nodesIn returns the names of the nodes in a zone.
func (e *environment) nodesIn(zone string) []string {
	var names []string
	for _, n := range e.cluster.Nodes {
		if n.Zone == zone {
			names = append(names, n.Name)
		}
	}
	return names
}

// zoneOf returns the zone of a node.
func (e *environment) zoneOf(node string) string {
	for _, n := range e.cluster.Nodes {
		if n.Name == node {
			return n.Zone
		}
	}
	return ""
}

// twins are two nodes in one zone: volumes can move from the one to the other.
func (e *environment) twins() (string, string, error) {
	for _, n := range e.cluster.Nodes {
		if names := e.nodesIn(n.Zone); len(names) >= 2 {
			return names[0], names[1], nil
		}
	}
	return "", "", fmt.Errorf("no zone has two nodes: %+v", e.cluster.Nodes)
}

// abroad is a node in another zone than the twins.
func (e *environment) abroad() (string, error) {
	twin, _, err := e.twins()
	if err != nil {
		return "", err
	}
	for _, n := range e.cluster.Nodes {
		if n.Zone != e.zoneOf(twin) {
			return n.Name, nil
		}
	}
	return "", fmt.Errorf("all nodes are in one zone: %+v", e.cluster.Nodes)
}
