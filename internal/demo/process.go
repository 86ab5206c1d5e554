package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// program says how a child process is started.
type program struct {
	name string
	path string
	args []string
	// env is the whole environment.
	env []string
	// log is the file that takes what the child prints; it is appended to.
	log string
	// orphan is the signal that the kernel sends the child when the demo
	// dies without having stopped it.
	orphan syscall.Signal
}

const (
	// restartPause is the pause before a dead child is started again; it
	// doubles with every death in a row.
	restartPause = 100 * time.Millisecond
	// shortLife is the age below which a death counts as one in a row.
	shortLife = 2 * time.Second
	// maxDeaths is how many deaths in a row are taken for a child that can't
	// run at all.
	maxDeaths = 5
)

// child is a supervised process: when it dies without having been stopped it
// is started again, as a kubelet does with a container.
type child struct {
	program
	// died is told of every death and whether a new start follows.
	died func(name, reason string, again bool)

	stop    chan struct{}
	stopped sync.Once
	done    chan struct{}

	mu      sync.Mutex
	process *os.Process // nil while none runs
	killed  bool        // by Kill: says nothing about the program
	err     error
}

// supervise starts p and keeps it running until Stop. It returns an error
// when the first start fails.
func supervise(p program, died func(name, reason string, again bool)) (*child, error) {
	c := &child{program: p, died: died, stop: make(chan struct{}), done: make(chan struct{})}
	started := make(chan error, 1)
	go c.run(started)
	if err := <-started; err != nil {
		<-c.done
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	return c, nil
}

// run is the life of a child, all its restarts included. It stays on one
// thread: the kernel sends the orphan signal when the thread dies that forked.
func (c *child) run(started chan<- error) {
	runtime.LockOSThread()
	defer close(c.done)
	deaths := 0
	for {
		born := time.Now()
		reason, err := c.once(started)
		started = nil
		select {
		case <-c.stop:
			return
		default:
		}
		if time.Since(born) > shortLife || c.takeKilled() {
			deaths = 0
		}
		deaths++
		if err != nil || deaths >= maxDeaths {
			c.giveUp(fmt.Errorf("%s does not stay up: %s", c.name, reason))
			return
		}
		c.died(c.name, reason, true)
		select {
		case <-c.stop:
			return
		case <-time.After(restartPause << (deaths - 1)):
		}
	}
}

// once runs the program until it ends and says how it ended. The error is
// that of a program that can't be started.
func (c *child) once(started chan<- error) (string, error) {
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return tellStart(started, err)
	}
	defer func() { _ = log.Close() }()
	// No context ends it: Stop does.
	cmd := exec.CommandContext(context.Background(), c.path, c.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, log, log
	// A group of its own keeps Ctrl-C of the terminal away from the child, and
	// lets a kill reach what the child has started, as that of a container does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: c.orphan}
	if err := c.start(cmd); err != nil {
		return tellStart(started, err)
	}
	_, _ = tellStart(started, nil)
	err = cmd.Wait()
	c.forget()
	_ = killGroup(cmd.Process.Pid, syscall.SIGKILL) // mostly nothing is left of it
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) {
		return cmd.ProcessState.String(), nil
	}
	return err.Error(), nil
}

func tellStart(started chan<- error, err error) (string, error) {
	if started != nil {
		started <- err
	}
	if err != nil {
		return err.Error(), err
	}
	return "", nil
}

// start begins a process, which whoever has heard of it can kill: a Kill meanwhile
// waits.
func (c *child) start(cmd *exec.Cmd) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	c.process = cmd.Process
	return nil
}

// forget is for a process that has ended.
func (c *child) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = nil
}

func (c *child) giveUp(err error) {
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	c.died(c.name, err.Error(), false)
}

// Err tells why the child is no longer started again, nil while it is.
func (c *child) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Kill ends the running process and all that it has started, as a crash of
// the container would. A new start follows. It reports whether a process ran.
func (c *child) Kill() bool {
	c.mu.Lock()
	c.killed = c.process != nil
	c.mu.Unlock()
	return c.signal(syscall.SIGKILL)
}

// takeKilled reports whether the last death was asked for.
func (c *child) takeKilled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	killed := c.killed
	c.killed = false
	return killed
}

// signal sends the child a signal, SIGKILL to all that it has started too, and reports
// whether the child got it. A child that was killed may be gone by the next call already.
func (c *child) signal(sig syscall.Signal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.process == nil:
		return false
	case sig == syscall.SIGKILL:
		return killGroup(c.process.Pid, sig) == nil
	}
	return c.process.Signal(sig) == nil
}

// Stop ends the child for good: SIGTERM first, SIGKILL to its whole group when
// ctx ends before it has gone. The error says that it had to be killed.
func (c *child) Stop(ctx context.Context) error {
	c.stopped.Do(func() { close(c.stop) })
	var killed error
	// A restart may be under way when the stop is asked for: the signal is
	// repeated until the supervisor has ended.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	sent := c.signal(syscall.SIGTERM)
	end := ctx.Done()
	for {
		select {
		case <-c.done:
			return killed
		case <-end:
			end = nil
			killed = fmt.Errorf("%s did not stop when asked to and was killed", c.name)
		case <-tick.C:
		}
		switch {
		case killed != nil:
			c.signal(syscall.SIGKILL)
		case !sent:
			sent = c.signal(syscall.SIGTERM)
		}
	}
}

// killGroup signals a process group; it fails where that is gone.
func killGroup(pgid int, sig syscall.Signal) error { return syscall.Kill(-pgid, sig) }
