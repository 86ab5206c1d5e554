package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// How long the steps of a node's start may take. Measured on two cores with three
// nodes starting at once: 1 s, 8 s with images to import, and 5 s to be Ready.
const (
	initPatience  = time.Minute
	readyPatience = 3 * time.Minute
)

// nodeProgram is the copy of this program that nodes have as init, and people as
// a command: the one that runs may be gone soon, as with `go run`.
const nodeProgram = "cluster"

// InitCommand is the first argument that makes the program a node's init.
const InitCommand = "node-init"

func (p Paths) init(n Node) process {
	return process{
		group: []string{n.Name, initGroup}, log: p.node(n.Name, "log", "init.log"),
		args:  []string{p.Bin(nodeProgram), InitCommand, p.Dir, n.Name, n.ServerID},
		flags: initNamespaces,
	}
}

// boot starts a node's init, if it isn't running, and waits for its containerd.
func (c *Cluster) boot(ctx context.Context, g groups, n Node) error {
	p := c.paths()
	alive, err := g.alive(p.init(n))
	if err != nil {
		return err
	}
	if !alive {
		if err := c.plugIn(ctx, g, n); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	return g.ensure(ctx, p.init(n), initPatience, func(ctx context.Context) error {
		_, err := c.Exec(ctx, n.Name, "ctr", "--connect-timeout=1s", "version")
		return err
	})
}

// plugIn starts init, connects it, and tells it to go on. A node whose init
// died, or whoever was starting it, leaves nothing that could disturb.
func (c *Cluster) plugIn(ctx context.Context, g groups, n Node) error {
	s, err := specOf(n.Name)
	if err != nil {
		return err
	}
	if err := errors.Join(g.kill(ctx, n.Name), g.prepareNode(n.Name)); err != nil {
		return err
	}
	if err := c.paths().detachStacked(n.Name); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	p := c.paths().init(n)
	p.stdin = r
	if err := errors.Join(g.start(p), r.Close()); err != nil {
		return err
	}
	var pid int
	ctx, cancel := context.WithTimeout(ctx, initPatience)
	defer cancel()
	err = poll(ctx, 5*time.Millisecond, func(context.Context) error {
		pid, err = g.initPID(n.Name)
		return err
	})
	if err != nil {
		return err
	}
	if err := plug(ctx, s, pid); err != nil {
		return err
	}
	_, err = w.WriteString("!")
	return err
}

// PowerOn starts a node that is off and returns when it is Ready.
func (c *Cluster) PowerOn(ctx context.Context, node string) error {
	n, err := c.node(node)
	if err != nil {
		return err
	}
	g, err := c.paths().groups()
	if err != nil {
		return err
	}
	if err := c.boot(ctx, g, n); err != nil {
		return err
	}
	return c.join(ctx, n)
}

// join brings a node with a running containerd into the cluster.
func (c *Cluster) join(ctx context.Context, n Node) error {
	p := c.paths()
	for _, unit := range []string{"kubelet", "kube-proxy"} {
		if err := p.unitDo(ctx, n.Name, unit, "start"); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	err := poll(ctx, 200*time.Millisecond, func(ctx context.Context) error { return c.nodeReady(ctx, n.Name) })
	if err != nil {
		log := p.node(n.Name, "log", "kubelet.log")
		return fmt.Errorf("node %s is not Ready: %w; the end of %s:\n%s", n.Name, err, log, lastLines(log))
	}
	return nil
}

// nodeReady returns an error while the kubelet hasn't said that the node is
// Ready. A node that was cut off is taken for Ready for some time, so the
// kubelet itself is asked too.
func (c *Cluster) nodeReady(ctx context.Context, node string) error {
	out, err := c.Kubectl(ctx, "get", "node", node, "--request-timeout=5s",
		"-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	if err != nil {
		return err
	}
	if status := strings.TrimSpace(string(out)); status != "True" {
		return fmt.Errorf("its condition Ready is %q", status)
	}
	_, err = c.Kubectl(ctx, "get", "--raw=/api/v1/nodes/"+node+"/proxy/healthz", "--request-timeout=5s")
	return err
}

// PowerOff pulls a node's plug: nothing is unmounted, nobody is told. What it
// had on its disk is there when it is powered on.
func (c *Cluster) PowerOff(ctx context.Context, node string) error {
	if _, err := c.node(node); err != nil {
		return err
	}
	g, err := c.paths().groups()
	if err != nil {
		return err
	}
	if err := g.kill(ctx, node); err != nil {
		return fmt.Errorf("power off %s: %w", node, err)
	}
	return c.paths().detachStacked(node)
}

// installNodeProgram copies the running program to where nodes find it.
func (p Paths) installNodeProgram() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	return writeChanged(p.Bin(nodeProgram), program, 0o755)
}

// onNodes does something to all nodes at once.
func (c *Cluster) onNodes(do func(Node) error) error {
	var wg sync.WaitGroup
	failed := make([]error, len(c.Nodes))
	for i, n := range c.Nodes {
		wg.Go(func() { failed[i] = do(n) })
	}
	wg.Wait()
	return errors.Join(failed...)
}

// makeNodeDirs makes what a node keeps when it is off.
func (p Paths) makeNodeDirs(node string) error {
	for _, dir := range []string{"log", "kubelet", "pods"} {
		if err := os.MkdirAll(filepath.Join(p.node(node), dir), 0o755); err != nil { // #nosec G301 -- containers' users pass through
			return err
		}
	}
	return nil
}
