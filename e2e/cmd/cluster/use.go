package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cinder-csi/cinder-csi/e2e/cluster"
)

// withCluster is the commands for a cluster that is up.
func withCluster(ctx context.Context, name string, args []string) error {
	type action struct {
		arguments int // at least
		do        func(c *cluster.Cluster) error
	}
	actions := map[string]action{
		"env": {0, func(c *cluster.Cluster) error {
			_, err := fmt.Fprintf(os.Stdout, "export KUBECONFIG=%s PATH=%s:$PATH\n", c.Kubeconfig, c.BinDir)
			return err
		}},
		"install": {0, func(c *cluster.Cluster) error {
			return install(ctx, c, func() error { return c.Install(ctx, args...) })
		}},
		"prometheus": {0, func(c *cluster.Cluster) error {
			return install(ctx, c, func() error {
				if _, err := c.Prometheus(ctx, args...); err != nil {
					return err
				}
				_, err := fmt.Fprintln(os.Stdout, "Prometheus is at", cluster.PrometheusURL)
				return err
			})
		}},
		"uninstall":     {0, func(c *cluster.Cluster) error { return c.Uninstall(ctx) }},
		"power-off":     {1, func(c *cluster.Cluster) error { return c.PowerOff(ctx, args[0]) }},
		"power-on":      {1, func(c *cluster.Cluster) error { return c.PowerOn(ctx, args[0]) }},
		"kubelet-stop":  {1, func(c *cluster.Cluster) error { return c.StopKubelet(ctx, args[0]) }},
		"kubelet-start": {1, func(c *cluster.Cluster) error { return c.StartKubelet(ctx, args[0]) }},
		"import":        {1, func(c *cluster.Cluster) error { return c.ImportImage(ctx, args[0]) }},
		"exec": {2, func(c *cluster.Cluster) error {
			return c.ExecWith(ctx, os.Stdin, os.Stdout, os.Stderr, args[0], args[1:]...)
		}},
	}
	a, known := actions[name]
	if !known || len(args) < a.arguments {
		return errUsage
	}
	c, err := cluster.Load()
	if err != nil {
		return err
	}
	return a.do(c)
}

// install builds the driver as it is in the checkout where this is called, or,
// called elsewhere, in the one that it was installed from last, and has it installed.
func install(ctx context.Context, c *cluster.Cluster, install func() error) error {
	checkout, err := cluster.Source()
	switch {
	case errors.Is(err, cluster.ErrNoSource):
	case err != nil:
		return err
	default:
		if err := c.UseSource(checkout); err != nil {
			return err
		}
	}
	if err := c.BuildDriver(ctx, os.Stderr); err != nil {
		return err
	}
	return install()
}
