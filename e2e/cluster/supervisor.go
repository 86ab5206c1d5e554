package cluster

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// restartDelay is how long a unit that ended by itself stays down, and stopGrace
// how long one that was told to stop may take.
const (
	restartDelay = time.Second
	stopGrace    = 20 * time.Second
)

// unit is a program that a node runs all the time.
type unit struct {
	name string
	args []string
}

// supervisor is the part of a node's init that runs programs. As pid 1 it is
// the parent of whatever loses its own, and has to be told of every child's end
// in one place: nothing here may wait for a child by itself.
type supervisor struct {
	mu       sync.Mutex
	children map[int]chan syscall.WaitStatus
	units    map[string]*running
	logOf    func(name string) (*os.File, error)
}

// running is a unit's state.
type running struct {
	unit
	wanted   bool
	pid      int // 0: not running
	ended    chan struct{}
	restarts int
}

func newSupervisor(logOf func(string) (*os.File, error), units []unit) *supervisor {
	s := &supervisor{children: map[int]chan syscall.WaitStatus{}, units: map[string]*running{}, logOf: logOf}
	for _, u := range units {
		s.units[u.name] = &running{unit: u}
	}
	return s
}

// reap collects children for ever. It is called once.
func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.ECHILD) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			continue // interrupted
		}
		s.mu.Lock()
		ended, ours := s.children[pid]
		delete(s.children, pid)
		s.mu.Unlock()
		if ours {
			ended <- status
		}
	}
}

// spawn starts a program whose end comes through the channel.
func (s *supervisor) spawn(args []string, attr *os.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	s.mu.Lock() // a child that ends at once is not looked up before it is entered
	defer s.mu.Unlock()
	process, err := os.StartProcess(args[0], args, attr)
	if err != nil {
		return 0, nil, err
	}
	pid := process.Pid
	ended := make(chan syscall.WaitStatus, 1)
	s.children[pid] = ended
	return pid, ended, process.Release()
}

// Start starts a unit and keeps it running.
func (s *supervisor) Start(name string) error {
	u, err := s.find(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	already := u.wanted
	u.wanted = true
	s.mu.Unlock()
	if already {
		return nil
	}
	return s.launch(u)
}

// launch starts a unit's program and sees to it that it is started again.
func (s *supervisor) launch(u *running) error {
	log, err := s.logOf(u.name)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	pid, ended, err := s.spawn(u.args, &os.ProcAttr{
		Env: nodeEnviron(), Dir: "/", Files: []*os.File{null, log, log}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", u.name, err)
	}
	gone := make(chan struct{})
	s.mu.Lock()
	u.pid, u.ended = pid, gone
	s.mu.Unlock()
	go func() {
		<-ended
		s.mu.Lock()
		u.pid = 0
		s.mu.Unlock()
		close(gone)
		s.again(u)
	}()
	return nil
}

// again starts a unit that ended although it is wanted.
func (s *supervisor) again(u *running) {
	time.Sleep(restartDelay)
	s.mu.Lock()
	wanted := u.wanted && u.pid == 0
	if wanted {
		u.restarts++
	}
	s.mu.Unlock()
	if !wanted {
		return
	}
	if err := s.launch(u); err != nil {
		s.again(u)
	}
}

// Stop stops a unit and returns when it has ended.
func (s *supervisor) Stop(name string) error {
	u, err := s.find(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	u.wanted = false
	pid, ended := u.pid, u.ended
	s.mu.Unlock()
	if pid == 0 {
		return nil
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		select {
		case <-ended:
			return nil
		case <-time.After(stopGrace):
		}
	}
	return fmt.Errorf("%s was killed %s ago and is still there", name, stopGrace)
}

// Active reports whether a unit runs.
func (s *supervisor) Active(name string) (bool, error) {
	u, err := s.find(name)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return u.pid != 0, nil
}

func (s *supervisor) find(name string) (*running, error) {
	u, ok := s.units[name]
	if !ok {
		return nil, fmt.Errorf("this node has no unit %q", name)
	}
	return u, nil
}
