package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os/exec"
	"time"

	"github.com/cinder-csi/cinder-csi/e2e/cluster"
	"github.com/cinder-csi/cinder-csi/e2e/upstream/bastion"
)

// kubeletPort is where a kubelet listens on its node's address.
const kubeletPort = "10250"

// node is a node of the cluster as specs see it that log in.
type node struct {
	cluster *cluster.Cluster
	cluster.Node
}

// nodesOf returns the nodes by their addresses.
func nodesOf(c *cluster.Cluster) map[string]bastion.Node {
	nodes := make(map[string]bastion.Node, len(c.Nodes))
	for _, n := range c.Nodes {
		nodes[n.Address] = node{cluster: c, Node: n}
	}
	return nodes
}

// Run runs a shell command in the node.
func (n node) Run(ctx context.Context, command string) (bastion.Result, error) {
	var stdout, stderr bytes.Buffer
	err := n.cluster.ExecWith(ctx, nil, &stdout, &stderr, n.Name, "/bin/sh", "-c", command)
	result := bastion.Result{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		result.Status, err = exit.ExitCode(), nil
	}
	return result, err
}

// StartKubelet starts the node's kubelet.
func (n node) StartKubelet(ctx context.Context) error {
	return n.cluster.StartKubelet(ctx, n.Name)
}

// StopKubelet stops it; the containers go on.
func (n node) StopKubelet(ctx context.Context) error {
	return n.cluster.StopKubelet(ctx, n.Name)
}

// KubeletRuns reports whether the kubelet listens.
func (n node) KubeletRuns(ctx context.Context) bool {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(n.Address, kubeletPort))
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
