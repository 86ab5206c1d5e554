package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/cinder-csi/cinder-csi/e2e/images"
)

// UpOptions say what "up" makes.
type UpOptions struct {
	Suite bool // also build Kubernetes' own tests
}

// Up brings the cluster up: what is missing is built, made and started, what is
// there is left alone.
func Up(ctx context.Context, progress *Progress, options UpOptions) (*Cluster, error) {
	p, err := NewPaths()
	if err != nil {
		return nil, err
	}
	source, err := Source()
	if err != nil {
		return nil, err
	}
	var c *Cluster
	err = p.locked(ctx, func() error {
		if err := p.owns(ctx); err != nil {
			return err
		}
		if err := p.forgetEarlierBoot(ctx); err != nil {
			return err
		}
		if err := p.build(ctx, progress, source, options.Suite); err != nil {
			return err
		}
		c, err = p.up(ctx, progress, source)
		return err
	})
	return c, err
}

// Build builds the programs and images without starting anything.
func Build(ctx context.Context, progress *Progress, options UpOptions) error {
	p, err := NewPaths()
	if err != nil {
		return err
	}
	source, err := Source()
	if err != nil {
		return err
	}
	return p.locked(ctx, func() error { return p.build(ctx, progress, source, options.Suite) })
}

func (p Paths) build(ctx context.Context, progress *Progress, source string, suite bool) error {
	if err := p.buildAll(ctx, progress, source, suite); err != nil {
		return err
	}
	progress.Step("programs are in %s", p.Bin(""))
	builder := &images.Builder{Dir: p.Dir, Source: source, Log: progress}
	if _, err := builder.Build(ctx, builder.All()); err != nil {
		return fmt.Errorf("build the images: %w", err)
	}
	progress.Step("images are in %s", p.Images())
	return nil
}

// bootID is what the kernel draws anew at each start of the machine.
const bootID = "/proc/sys/kernel/random/boot_id"

// forgetEarlierBoot removes the state of a cluster that ended with the machine.
// etcd doesn't sync its files, so what is left of it is not to be trusted.
func (p Paths) forgetEarlierBoot(ctx context.Context) error {
	now, err := os.ReadFile(bootID)
	if err != nil {
		return err
	}
	mark := p.run("boot")
	before, err := os.ReadFile(mark)
	if err == nil && strings.TrimSpace(string(before)) == strings.TrimSpace(string(now)) {
		return nil
	}
	if exists(p.run()) {
		if err := p.down(ctx); err != nil {
			return err
		}
	}
	return writeFile(mark, now, 0o644)
}

// up starts what isn't running.
func (p Paths) up(ctx context.Context, progress *Progress, source string) (*Cluster, error) {
	g, err := p.groups()
	if err != nil {
		return nil, err
	}
	if err := p.makeBridge(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(p.makePKI(), p.installNodeProgram()); err != nil {
		return nil, err
	}
	admin, err := os.ReadFile(p.pki("admin.kubeconfig"))
	if err != nil {
		return nil, err
	}
	if err := writeChanged(p.Kubeconfig(), admin, 0o600); err != nil {
		return nil, err
	}
	nodes, err := p.startCloud(ctx, g)
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		Dir: p.Dir, Source: source, Kubeconfig: p.Kubeconfig(), BinDir: p.Bin(""), CloudURL: cloudURL(), Nodes: nodes,
	}
	if err := c.save(); err != nil {
		return nil, err
	}
	progress.Step("devcloud serves %d servers at %s", len(nodes), c.CloudURL)
	return c, c.start(ctx, progress, g)
}

// start starts the control plane and the nodes beside each other: importing
// images takes as long as the API needs to come up.
func (c *Cluster) start(ctx context.Context, progress *Progress, g groups) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := c.paths()
	var wg sync.WaitGroup
	var api, ready error
	started := make(chan struct{})
	wg.Go(func() {
		defer close(started)
		if api = c.startControlPlane(ctx, g); api != nil {
			cancel()
			return
		}
		progress.Step("the API answers at %s", apiURL)
	})
	wg.Go(func() {
		if ready = p.prepareSeed(ctx, g); ready != nil {
			return
		}
		ready = c.onNodes(func(n Node) error {
			if err := errors.Join(p.makeNodeDirs(n.Name), p.plantSeed(ctx, n.Name)); err != nil {
				return err
			}
			if err := c.boot(ctx, g, n); err != nil {
				return err
			}
			if err := c.importImages(ctx, n); err != nil {
				return err
			}
			<-started
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return c.join(ctx, n)
		})
	})
	<-started
	var after error
	if api == nil {
		after = c.startAddons(ctx, g)
	}
	wg.Wait()
	if api != nil {
		return api
	}
	if err := errors.Join(after, ready); err != nil {
		return err
	}
	progress.Step("%d nodes are Ready", len(c.Nodes))
	return nil
}

// startAddons starts what needs the API and no node.
func (c *Cluster) startAddons(ctx context.Context, g groups) error {
	if err := c.startControllers(ctx, g); err != nil {
		return err
	}
	return c.startSnapshots(ctx, g)
}
