package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// archive is an image archive (docker save's format).
type archive struct {
	path  string
	stamp []byte // differs when the file was written anew
}

func newArchive(path string) (archive, error) {
	info, err := os.Stat(path)
	if err != nil {
		return archive{}, err
	}
	return archive{path, fmt.Appendf(nil, "%s %d %s\n", path, info.Size(), info.ModTime())}, nil
}

// archives are the images of the cluster.
func (p Paths) archives() ([]archive, error) {
	paths, err := filepath.Glob(filepath.Join(p.Images(), "*.tar"))
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("no images in %s", p.Images())
	}
	if err != nil {
		return nil, err
	}
	var all []archive
	for _, path := range paths {
		if filepath.Base(path) == "snapshot-controller.tar" {
			continue // the cluster runs it as a process
		}
		a, err := newArchive(path)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// marked reports whether the archive was imported where these marks are.
func (a archive) marked(dir string) bool {
	stamp, err := os.ReadFile(filepath.Join(dir, filepath.Base(a.path)))
	return err == nil && bytes.Equal(stamp, a.stamp)
}

func (a archive) mark(dir string) error {
	return writeFile(filepath.Join(dir, filepath.Base(a.path)), a.stamp, 0o644)
}

// ImportImage gives an image archive (docker save's format) to every node. One
// that they have already costs nothing.
func (c *Cluster) ImportImage(ctx context.Context, tarball string) error {
	a, err := newArchive(tarball)
	if err != nil {
		return err
	}
	return c.onNodes(func(n Node) error { return c.importOn(ctx, n, a) })
}

// importImages gives a node the images that it doesn't have.
func (c *Cluster) importImages(ctx context.Context, n Node) error {
	archives, err := c.paths().archives()
	if err != nil {
		return err
	}
	for _, a := range archives {
		if err := c.importOn(ctx, n, a); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) importOn(ctx context.Context, n Node, a archive) error {
	// Marks stay when the node is powered off, as its images do.
	marks := c.paths().node(n.Name, "images")
	if a.marked(marks) {
		return nil
	}
	f, err := os.Open(a.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	cmd, err := c.enter(ctx, n.Name, "ctr", "--namespace=k8s.io", "images", "import", "-")
	if err != nil {
		return err
	}
	cmd.Stdin = f
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("node %s: import %s: %w", n.Name, a.path, err)
	}
	return a.mark(marks)
}
