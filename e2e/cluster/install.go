package cluster

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cinder-csi/cinder-csi/e2e/images"
)

// What the driver is installed as.
const (
	Release   = "cinder-csi"
	Namespace = "kube-system"
)

// installPatience is how long Helm waits for the driver to be ready, in Helm's
// words; it takes 10 s.
const installPatience = "3m"

// Helm runs Helm as the administrator and returns what it printed.
func (c *Cluster) Helm(ctx context.Context, args ...string) ([]byte, error) {
	return output(c.helm(ctx, args...))
}

func (c *Cluster) helm(ctx context.Context, args ...string) *exec.Cmd {
	cmd := command(ctx, c.paths().Bin("helm"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "HELM_CACHE_HOME="+c.paths().run("helm"))
	return cmd
}

// UseSource has the driver and its chart taken from another checkout than the one
// that the cluster was started from.
func (c *Cluster) UseSource(checkout string) error {
	if checkout == c.Source {
		return nil
	}
	c.Source = checkout
	return c.save()
}

// BuildDriver builds the driver's images from the checkout, where they are not of
// its present state, and tells log what it builds.
func (c *Cluster) BuildDriver(ctx context.Context, log io.Writer) error {
	builder := &images.Builder{Dir: c.Dir, Source: c.Source, Log: log}
	if _, err := builder.Build(ctx, builder.Driver()); err != nil {
		return fmt.Errorf("build the driver's images: %w", err)
	}
	return nil
}

// Install installs the driver from the checkout's chart and the images that were
// built last, or upgrades it, and returns when it is ready. It takes devcloud's
// cloud.conf and the values of e2e/values.yaml; further arguments are for Helm.
func (c *Cluster) Install(ctx context.Context, extraHelmArgs ...string) error {
	args := []string{
		"upgrade", "--install", Release, filepath.Join(c.Source, "charts", "cinder-csi"), "--namespace=" + Namespace,
		"--values=" + filepath.Join(c.Source, "e2e", "values.yaml"),
		"--set-file=secret.data.cloud\\.conf=" + c.paths().cloudConf(),
		"--wait", "--timeout=" + installPatience,
	}
	for _, role := range roles() {
		if err := c.ImportImage(ctx, c.imageOf(role)); err != nil {
			return err
		}
	}
	digests, err := c.imageDigests()
	if err != nil {
		return err
	}
	_, err = c.Helm(ctx, append(append(args, digests...), extraHelmArgs...)...)
	return err
}

// roles are what the driver has an image for each of.
func roles() []string { return []string{"controller", "node"} }

func (c *Cluster) imageOf(role string) string {
	return filepath.Join(c.paths().Images(), "cinder-csi-"+role+".tar")
}

// imageDigests marks the pods with the images of this checkout: their tag is
// always the same, and pods have to be replaced when they change.
func (c *Cluster) imageDigests() ([]string, error) {
	var args []string
	for _, role := range roles() {
		archive, err := os.ReadFile(c.imageOf(role))
		if err != nil {
			return nil, err
		}
		args = append(args, fmt.Sprintf("--set=%s.podAnnotations.image=%x", role, sha256.Sum256(archive)))
	}
	return args, nil
}

// Uninstall removes the driver and returns when it has gone.
func (c *Cluster) Uninstall(ctx context.Context) error {
	_, err := c.Helm(ctx, "uninstall", Release, "--namespace="+Namespace, "--wait", "--ignore-not-found", "--timeout="+installPatience)
	return err
}
