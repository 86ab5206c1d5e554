package cluster

import "fmt"

// The cluster's network is a bridge without uplink; everything that listens
// for nodes and pods listens on its address.
const (
	bridgeName = "cinder-br0"
	hostIP     = "10.99.0.1"
	prefixBits = 24

	apiPort     = 6443
	apiURL      = "https://10.99.0.1:6443"
	serviceCIDR = "10.96.0.0/16"
	serviceIP   = "10.96.0.1"
	podCIDR     = "10.244.0.0/16"

	// controlIP is for what only the control plane talks to. It is loopback, but
	// not the 127.0.0.1 that an etcd of the machine's own would use.
	controlIP = "127.99.0.1"
	etcdURL   = "http://127.99.0.1:2379"
	etcdPeer  = "http://127.99.0.1:2380"

	devcloudPort = 8776
)

// spec is what is known about a node before it exists.
type spec struct {
	name, zone string
	number     int
}

// specs are the nodes: two in a zone, so that a volume can move, and one in
// another, so that it cannot.
func specs() []spec {
	return []spec{{"n1", "az1", 1}, {"n2", "az1", 2}, {"n3", "az2", 3}}
}

func (s spec) address() string { return fmt.Sprintf("10.99.0.1%d", s.number) }
func (s spec) podCIDR() string { return fmt.Sprintf("10.244.%d.0/24", s.number) }
func (s spec) veth() string    { return "cinder-" + s.name }

func specOf(name string) (spec, error) {
	for _, s := range specs() {
		if s.name == name {
			return s, nil
		}
	}
	return spec{}, fmt.Errorf("there is no node %q: n1 and n2 are in az1, n3 is in az2", name)
}
