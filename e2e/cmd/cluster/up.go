package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/cinder-csi/cinder-csi/e2e/cluster"
)

// bringUp is the commands build and up.
func bringUp(ctx context.Context, name string, args []string) error {
	options := cluster.UpOptions{Suite: slices.Contains(args, "--suite")}
	if len(args) > 1 || len(args) == 1 && !options.Suite {
		return errUsage
	}
	progress := cluster.NewProgress(os.Stderr)
	if name == "build" {
		return cluster.Build(ctx, progress, options)
	}
	c, err := cluster.Up(ctx, progress, options)
	if err != nil {
		return err
	}
	progress.Step("the cluster is up")
	_, err = fmt.Fprintf(os.Stdout, `
To use it:
  export KUBECONFIG=%s PATH=%s:$PATH
  kubectl get nodes
  cluster install        the driver, with Helm
What to do with it is told in e2e/README.md. To take the cluster down:
  make cluster-down
`, c.Kubeconfig, c.BinDir)
	return err
}

func down(ctx context.Context) error {
	progress := cluster.NewProgress(os.Stderr)
	if err := cluster.Down(ctx); err != nil {
		return err
	}
	progress.Step("the cluster is down, nothing is left of it")
	return nil
}
