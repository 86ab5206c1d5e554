package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Exec runs a program in a node, as root and in all of its namespaces, and
// returns what it printed.
func (c *Cluster) Exec(ctx context.Context, node string, args ...string) ([]byte, error) {
	cmd, err := c.enter(ctx, node, args...)
	if err != nil {
		return nil, err
	}
	return output(cmd)
}

// ExecWith is Exec with streams.
func (c *Cluster) ExecWith(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer, node string, args ...string) error {
	cmd, err := c.enter(ctx, node, args...)
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	return cmd.Run()
}

func (c *Cluster) enter(ctx context.Context, node string, args ...string) (*exec.Cmd, error) {
	if _, err := specOf(node); err != nil {
		return nil, err
	}
	g, err := c.paths().groups()
	if err != nil {
		return nil, err
	}
	pid, err := g.initPID(node)
	if err != nil {
		return nil, err
	}
	cmd := command(ctx, "nsenter", append([]string{
		"--target=" + strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--",
	}, args...)...)
	cmd.Env = nodeEnviron()
	return cmd, nil
}

// initPID returns the pid that a node's init has on the machine.
func (g groups) initPID(node string) (int, error) {
	pids, err := g.pids(node, initGroup)
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		if err != nil {
			continue // ended meanwhile
		}
		if isInit(string(status)) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("node %s is off: `cluster power-on %s`", node, node)
}

// isInit reads in /proc/PID/status whether a process is pid 1 of a namespace
// right below the machine's.
func isInit(status string) bool {
	for line := range strings.Lines(status) {
		if pids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(pids)
			return len(fields) == 2 && fields[1] == "1"
		}
	}
	return false
}
