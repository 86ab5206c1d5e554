package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Cluster is a cluster that "up" has started.
type Cluster struct {
	Dir        string `json:"dir"`
	Source     string `json:"source"` // the checkout that the driver is from
	Kubeconfig string `json:"kubeconfig"`
	BinDir     string `json:"binDir"`
	CloudURL   string `json:"cloudURL"` // devcloud's, for package internal/devcloud/admin
	Nodes      []Node `json:"nodes"`
}

// Node is a node and the server in devcloud that it is.
type Node struct {
	Name     string `json:"name"`
	Zone     string `json:"zone"`
	Address  string `json:"address"`
	ServerID string `json:"serverID"`
}

// ErrNotUp says that there is no cluster.
var ErrNotUp = errors.New("no cluster is up: start one with `make cluster-up`")

// Load returns the cluster that is up.
func Load() (*Cluster, error) {
	paths, err := NewPaths()
	if err != nil {
		return nil, err
	}
	return load(paths)
}

func load(paths Paths) (*Cluster, error) {
	data, err := os.ReadFile(paths.record())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (%s is missing)", ErrNotUp, paths.record())
	}
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%s: %w: `make cluster-down` and start again", paths.record(), err)
	}
	return c, nil
}

// save writes the cluster where Load finds it, whole or not at all.
func (c *Cluster) save() error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(c.paths().record(), append(data, '\n'), 0o644)
}

func (c *Cluster) paths() Paths { return Paths{Dir: c.Dir} }

// node returns the node of that name.
func (c *Cluster) node(name string) (Node, error) {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	_, err := specOf(name)
	if err == nil {
		err = fmt.Errorf("node %s is not part of this cluster: `make cluster-up` adds it", name)
	}
	return Node{}, err
}
