// Package supervisor runs services as the first process of a PID namespace and
// a mount namespace of their own. Whatever they start, mount or leave lying in
// /run ends with it: the kernel sees to that, and nothing has to be looked for.
package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is what a service gets between SIGTERM and SIGKILL.
const grace = 15 * time.Second

// Service is a program to run.
type Service struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	Env  []string `json:"env"`
	// Log is the file that gets its output.
	Log string `json:"log"`
}

// State is what has become of a service.
type State struct {
	Running bool `json:"running"`
	// Exit says how it ended, when it has.
	Exit string `json:"exit,omitempty"`
}

// running is a service that was started.
type running struct {
	pid  int
	exit string
	done chan struct{}
}

// Supervisor starts services and learns how each of them ends.
type Supervisor struct {
	mu       sync.Mutex
	services map[string]*running
}

// New returns a supervisor that reaps: all orphans of its namespace come to it.
// There can be one in a process, since whoever reaps takes the children of all.
func New() *Supervisor {
	s := &Supervisor{services: map[string]*running{}}
	children := make(chan os.Signal, 1)
	notify(children)
	go func() {
		for range children {
			s.reap()
		}
	}()
	return s
}

// reap collects every process that has ended.
func (s *Supervisor) reap() {
	for {
		s.mu.Lock()
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		for _, r := range s.services {
			if err == nil && pid > 0 && r.pid == pid && r.exit == "" {
				r.exit = describe(status)
				close(r.done)
			}
		}
		s.mu.Unlock()
		if err != nil || pid <= 0 {
			return
		}
	}
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return "killed by " + status.Signal().String()
	}
	return fmt.Sprintf("ended with status %d", status.ExitStatus())
}

// Start runs a service, or leaves it as it is if it runs.
func (s *Supervisor) Start(service Service) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.services[service.Name]; r != nil && r.exit == "" {
		return nil
	}
	log, err := os.OpenFile(service.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	path, err := lookup(service.Args[0])
	if err != nil {
		return err
	}
	process, err := os.StartProcess(path, service.Args, &os.ProcAttr{
		Dir: filepath.Dir(service.Log), Env: service.Env, Files: []*os.File{null, log, log}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	s.services[service.Name] = &running{pid: process.Pid, done: make(chan struct{})}
	return process.Release()
}

// lookup finds a program where the distribution puts them, whatever is first in
// the PATH of whoever called.
func lookup(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"} {
		if path := filepath.Join(dir, name); unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("the program %s is missing: install its package", name)
}

// Signal sends a signal to a service and its workers.
func (s *Supervisor) Signal(name string, signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.services[name]
	if r == nil || r.exit != "" {
		return fmt.Errorf("%s does not run", name)
	}
	return unix.Kill(-r.pid, signal)
}

// Stop ends a service and waits until it has ended.
func (s *Supervisor) Stop(name string) error {
	s.mu.Lock()
	r := s.services[name]
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	// The leader first, so that it can end its workers in order.
	_ = unix.Kill(r.pid, unix.SIGTERM)
	select {
	case <-r.done:
	case <-time.After(grace):
	}
	_ = unix.Kill(-r.pid, unix.SIGKILL)
	select {
	case <-r.done:
		return nil
	case <-time.After(grace):
		return fmt.Errorf("%s does not end, even by SIGKILL", name)
	}
}

// States returns what has become of every service.
func (s *Supervisor) States() map[string]State {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make(map[string]State, len(s.services))
	for name, r := range s.services {
		states[name] = State{Running: r.exit == "", Exit: r.exit}
	}
	return states
}
