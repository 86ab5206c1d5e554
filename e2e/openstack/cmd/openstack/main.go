// Program openstack starts and ends a real OpenStack on this machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack"
)

const usage = `openstack up             start everything, from nothing (one to two minutes)
openstack guests         boot two servers with a guest that is a node (half a minute)
openstack down           end it and leave nothing
openstack status         what runs
openstack start SERVICE  start one service again
openstack stop SERVICE   end one service

The state is in ` + stack.DefaultDir + `, or in $` + stack.DirVariable + ` (an absolute path).
`

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	cancel()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "openstack:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	s, err := stack.New(stack.Dir(), out)
	if err != nil {
		return err
	}
	switch command := strings.Join(args, " "); command {
	case "up":
		return s.Up(ctx)
	case "down":
		return s.Down(ctx)
	case "guests":
		return s.Guests(ctx)
	case "status":
		return status(ctx, s, out)
	case "hold": // the supervisor itself, started by up
		return s.Hold(context.WithoutCancel(ctx))
	case "neutron": // a service of the cloud, started by up
		return stack.ServeNeutron()
	case "forward": // what reaches into the guests, started by guests
		return s.Forward(ctx)
	}
	if len(args) > 2 && args[0] == "host" { // a program on a host of guests, started by guests
		return s.Host(args[1], args[2], args[3:]...)
	}
	if len(args) == 2 && args[0] == "stop" {
		return s.Supervisor().Stop(ctx, args[1])
	}
	if len(args) == 2 && args[0] == "start" {
		return s.Restart(ctx, args[1])
	}
	return errors.New("not understood\n" + strings.TrimSuffix(usage, ".\n"))
}

func status(ctx context.Context, s *stack.Stack, out io.Writer) error {
	states, err := s.Supervisor().States(ctx)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(states))
	for name := range states {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		state := "runs"
		if !states[name].Running {
			state = states[name].Exit
		}
		if _, err := fmt.Fprintf(out, "%-20s %s\n", name, state); err != nil {
			return err
		}
	}
	return nil
}
