package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// A node's containerd begins with a copy of a directory that has all images
// already, the seed. It outlives the cluster, so that an image is imported once
// and not by every node of every cluster: three nodes spent 20 s on it.

func (p Paths) seed(parts ...string) string {
	return filepath.Join(append([]string{p.Dir, "seed"}, parts...)...)
}

// seedConfig makes a containerd that only keeps images.
const seedConfig = `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]

[grpc]
  address = %q
`

func (p Paths) seeder() process {
	return process{
		group: []string{hostGroup, "seed"}, log: p.log("seed"),
		// What it mounts to unpack an image is nobody else's to see.
		args: []string{"unshare", "--mount", "--propagation=private", "containerd", "--config=" + p.run("seed", "config.toml")},
	}
}

// prepareSeed imports the images that have changed into the seed, if a node is
// going to begin with it.
func (p Paths) prepareSeed(ctx context.Context, g groups) error {
	wanted := false
	for _, s := range specs() {
		wanted = wanted || !exists(p.node(s.name, "containerd"))
	}
	if !wanted {
		return nil
	}
	archives, err := p.archives()
	if err != nil {
		return err
	}
	var changed []archive
	for _, a := range archives {
		if !a.marked(p.seed("images")) {
			changed = append(changed, a)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return p.importSeed(ctx, g, changed)
}

func (p Paths) importSeed(ctx context.Context, g groups, changed []archive) (err error) {
	socket := p.run("seed", "containerd.sock")
	config := fmt.Sprintf(seedConfig, p.seed("containerd"), p.run("seed", "state"), socket)
	if err := writeFile(p.run("seed", "config.toml"), []byte(config), 0o644); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.kill(ctx, p.seeder().group...)) }()
	err = g.ensure(ctx, p.seeder(), initPatience, func(ctx context.Context) error {
		_, err := output(command(ctx, "ctr", "--address="+socket, "--connect-timeout=1s", "version"))
		return err
	})
	if err != nil {
		return err
	}
	for _, a := range changed {
		cmd := command(ctx, "ctr", "--address="+socket, "--namespace=k8s.io", "images", "import", a.path)
		if _, err := output(cmd); err != nil {
			return fmt.Errorf("import %s: %w", a.path, err)
		}
		if err := a.mark(p.seed("images")); err != nil {
			return err
		}
	}
	return nil
}

// plantSeed gives a node that has none its containerd directory. What both have
// are links to the same files, which containerd never changes, except for its
// databases.
func (p Paths) plantSeed(ctx context.Context, node string) error {
	target := p.node(node, "containerd")
	if exists(target) {
		return nil
	}
	temp := target + ".new"
	if err := errors.Join(os.RemoveAll(temp), os.MkdirAll(p.node(node, "images"), 0o755)); err != nil { // #nosec G301 -- nothing secret
		return err
	}
	for from, to := range map[string]string{p.seed("containerd"): temp, p.seed("images") + "/.": p.node(node, "images")} {
		if _, err := output(command(ctx, "cp", "--archive", "--link", "--force", from, to)); err != nil {
			return err
		}
	}
	databases, err := filepath.Glob(filepath.Join(temp, "*", "*.db"))
	if err == nil && len(databases) == 0 {
		err = fmt.Errorf("%s has no databases", temp)
	}
	if err != nil {
		return err
	}
	for _, path := range databases {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := writeFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return os.Rename(temp, target)
}
