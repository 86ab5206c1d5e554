// Command cluster runs a Kubernetes cluster on this machine: see package cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/cinder-csi/cinder-csi/e2e/cluster"
)

const usage = `usage: cluster COMMAND

  build [--suite]     build the programs and images; --suite: Kubernetes' own tests too
  up [--suite]        build what is missing, start what isn't running
  down                stop everything and leave nothing but programs, images and logs
  status              tell what runs
  env                 print the lines that set up a shell

  install [ARG...]    build the driver where it has changed, give its images to the nodes, and install or
                      upgrade it with Helm, with further arguments for that
  uninstall           remove the driver
  prometheus [ARG...] install the driver with its metrics and alerts, and start a Prometheus that has them

  power-off NODE      pull a node's plug
  power-on NODE       start it again
  kubelet-stop NODE   stop its kubelet
  kubelet-start NODE  start it again
  exec NODE CMD...    run a command in a node
  import FILE         give an image archive to every node
  logs                copy all logs into the state directory's logs folder

Everything is in /var/tmp/cinder-csi-e2e, or in $CINDER_E2E_DIR.
`

var errUsage = errors.New("unknown command or missing argument")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && len(os.Args) > 1 && os.Args[1] == "exec":
		os.Exit(exit.ExitCode())
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case cluster.InitCommand:
		if len(args) != 3 {
			return errUsage
		}
		return cluster.Init(ctx, args[0], args[1], args[2])
	case cluster.TargetsCommand:
		return cluster.FollowTargets(ctx)
	case "build", "up":
		return bringUp(ctx, name, args)
	case "down":
		return down(ctx)
	case "logs":
		dir, err := cluster.CollectLogs(ctx)
		if dir != "" {
			_, said := fmt.Fprintln(os.Stdout, "logs are in", dir)
			err = errors.Join(err, said)
		}
		return err
	case "status":
		healthy, err := cluster.Status(ctx, os.Stdout)
		if err == nil && !healthy {
			err = errors.New("not everything runs: `make cluster-up` starts it again")
		}
		return err
	}
	return withCluster(ctx, name, args)
}
