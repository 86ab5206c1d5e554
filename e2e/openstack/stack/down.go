package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// leader is the supervisor's process. A process id alone may be another's by
// now: the start tells them apart.
type leader struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

const leaderFile = "run/supervisor.json"

func (s *Stack) remember(pid int) error {
	start, err := started(pid)
	if err != nil {
		return err
	}
	text, err := json.Marshal(leader{PID: pid, Start: start})
	if err != nil {
		return err
	}
	return s.write(leaderFile, string(text), 0o600)
}

// started returns when a process was started, in ticks since boot.
func started(pid int) (uint64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	// What is in brackets may hold anything.
	_, rest, ok := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if i := strings.LastIndex(string(text), ") "); i >= 0 {
		fields = strings.Fields(string(text)[i+2:])
	}
	const startField = 19 // the 22nd of all, after the two before the bracket's end
	if !ok || len(fields) <= startField {
		return 0, fmt.Errorf("the state of process %d can't be read", pid)
	}
	return strconv.ParseUint(fields[startField], 10, 64)
}

// Down ends the cloud and removes all of it. With the first process of their
// namespace all others end, and with them their mounts and what is in their
// /run.
func (s *Stack) Down(ctx context.Context) error {
	text, err := os.ReadFile(s.path(leaderFile))
	if errors.Is(err, os.ErrNotExist) {
		return s.remove()
	}
	if err != nil {
		return err
	}
	var l leader
	if err := json.Unmarshal(text, &l); err != nil {
		return fmt.Errorf("%s: %w", s.path(leaderFile), err)
	}
	if err := end(ctx, l); err != nil {
		return err
	}
	if err := s.remove(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%6.1f s  the OpenStack in %s is gone\n", time.Since(s.start).Seconds(), s.dir)
	return err
}

// end kills a supervisor and waits until the kernel is done with it, which is
// when all of its namespace have ended.
func end(ctx context.Context, l leader) error {
	handle, err := unix.PidfdOpen(l.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", l.PID, err)
	}
	defer func() { _ = unix.Close(handle) }()
	// From here on the handle means this very process.
	if start, _ := started(l.PID); start != l.Start {
		return nil // the supervisor has ended, and its id is another's or nobody's
	}
	if err := unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", l.PID, err)
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}, 200)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", l.PID)
}

// marker is a file of every state folder: nothing else is ever removed.
const marker = "conf/cinder/cinder.conf"

// remove deletes the folder of the state.
func (s *Stack) remove() error {
	if _, err := os.Lstat(s.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(s.path(marker)); err != nil && len(entries) > 0 {
		return fmt.Errorf("%s is no folder of an OpenStack: %s is missing; it is left alone", s.dir, marker)
	}
	return os.RemoveAll(s.dir)
}
