package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hostGroup is the control group of what runs on the machine itself.
const hostGroup = "host"

// process is a program that outlives this one.
type process struct {
	group []string // its control group below groupRoot: it is alive while that has processes
	log   string
	args  []string
	flags uintptr  // its own namespaces, CLONE_NEW…
	stdin *os.File // nil: /dev/null
}

// start starts a process in its control group, in which the kernel puts it
// before its first instruction.
func (g groups) start(p process) error {
	dir := g.dir(p.group...)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Dir(p.log), 0o755)); err != nil { // #nosec G301 -- logs are for everyone
		return err
	}
	group, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = group.Close() }()
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644) // #nosec G302 -- logs are for everyone
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(p.args[0], p.args[1:]...) //nolint:noctx // it outlives every context
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	if p.stdin != nil {
		cmd.Stdin = p.stdin
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd()), Cloneflags: p.flags,
	}
	// A lock or a pipe that this program was started with would be held by what
	// outlives it, and whoever waits for it would wait for the cluster to end.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("start %s: keep descriptors from it: %w", filepath.Base(p.args[0]), err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(p.args[0]), err)
	}
	go func() { _ = cmd.Wait() }() // what became of it is seen in its group and its log
	return nil
}

// alive reports whether a process has been started and has not ended.
func (g groups) alive(p process) (bool, error) {
	pids, err := g.pids(p.group...)
	return len(pids) > 0, err
}

// ensure starts a process that isn't alive and waits until ready says so; it
// gives up at once when the process ends, with the end of its log.
func (g groups) ensure(ctx context.Context, p process, patience time.Duration, ready func(context.Context) error) error {
	name := filepath.Base(p.args[0])
	alive, err := g.alive(p)
	if err != nil {
		return err
	}
	if !alive {
		if err := g.start(p); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s was given %s", name, patience))
	defer cancel()
	ended := false
	err = poll(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		if alive, err := g.alive(p); err == nil && !alive {
			ended = true
			return nil
		}
		return ready(ctx)
	})
	if ended {
		err = errors.New("it ended")
	}
	if err != nil {
		return fmt.Errorf("%s is not ready: %w; the end of %s:\n%s", name, err, p.log, lastLines(p.log))
	}
	return nil
}

// lastLines returns the end of a log, for an error.
func lastLines(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return tail(string(data))
}
