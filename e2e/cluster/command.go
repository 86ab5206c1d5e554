package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// stopDelay is how long a program that was told to stop may take before its
// pipes are cut.
const stopDelay = 10 * time.Second

// command prepares a program that gets SIGTERM when ctx ends.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopDelay
	return cmd
}

// output runs a program and returns what it printed; its error holds what the
// program complained about.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w: %s", brief(cmd.Args), err, tail(stderr.String()+stdout.String()))
	}
	return stdout.Bytes(), nil
}

// ip runs the command ip.
func ip(ctx context.Context, args ...string) error {
	_, err := output(command(ctx, "ip", args...))
	return err
}

// brief keeps an error readable that tells a long command line.
func brief(args []string) string {
	const most = 160
	line := strings.Join(args, " ")
	if len(line) > most {
		line = line[:most] + "…"
	}
	return line
}

// tail is the end of a program's complaint.
func tail(text string) string {
	const most = 2000
	text = strings.TrimSpace(text)
	if len(text) > most {
		text = "…" + text[len(text)-most:]
	}
	return text
}

// Kubectl runs kubectl as the administrator and returns what it printed.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) ([]byte, error) {
	return output(c.kubectl(ctx, args...))
}

func (c *Cluster) kubectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := command(ctx, c.paths().Bin("kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig)
	return cmd
}

// poll calls check until it succeeds or ctx ends, whose error then tells the
// last failure.
func poll(ctx context.Context, every time.Duration, check func(context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-time.After(every):
		}
	}
}
