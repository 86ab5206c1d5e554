package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asInit makes the test binary a node's pid 1: it may be told of every child.
const asInit = "CINDER_E2E_TEST_INIT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asInit); dir != "" {
		if err := actAsInit(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestInitKeepsItsUnitsRunningAndCollectsOrphans(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("a pid namespace needs root: run the tests as root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), asInit+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
}

// actAsInit is the test itself, inside.
func actAsInit(dir string) error {
	logOf := func(name string) (*os.File, error) {
		return os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	s := newSupervisor(logOf, []unit{
		{"steady", []string{"/bin/sh", "-c", "trap 'echo off; exit' TERM; echo on; while :; do sleep 0.01; done"}},
		{"orphans", []string{"/bin/sh", "-c", "(sh -c 'sleep 0.05; echo ending' &) ; exec sleep 1000"}},
	})
	go s.reap()
	server := httptest.NewServer(s.handler())
	defer server.Close()
	for _, step := range []func(*supervisor, string, string) error{unitLives, unitIsRestarted, unitStops, orphansAreCollected} {
		if err := step(s, dir, server.URL); err != nil {
			return err
		}
	}
	return nil
}

func post(url string, want int) error {
	resp, err := http.Post(url, "", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != want {
		return fmt.Errorf("%s: %s, want %d", url, resp.Status, want)
	}
	return nil
}

// eventually repeats a check for a while.
func eventually(what string, check func() bool) error {
	for deadline := time.Now().Add(time.Minute); !check(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("never: %s", what)
		}
	}
	return nil
}

func logged(dir, name, word string) int {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return -1
	}
	return strings.Count(string(data), word)
}

func statusOf(s *supervisor, name string) UnitStatus {
	for _, u := range s.status() {
		if u.Name == name {
			return u
		}
	}
	return UnitStatus{}
}

func unitLives(s *supervisor, dir, url string) error {
	if err := post(url+"/units/nonsense/start", http.StatusInternalServerError); err != nil {
		return err
	}
	for range 2 { // a second start changes nothing
		if err := post(url+"/units/steady/start", http.StatusOK); err != nil {
			return err
		}
	}
	if err := eventually("it runs", func() bool { return logged(dir, "steady", "on") == 1 }); err != nil {
		return err
	}
	if u := statusOf(s, "steady"); !u.Active || u.Restarts != 0 {
		return fmt.Errorf("%+v", u)
	}
	return nil
}

func unitIsRestarted(s *supervisor, dir, _ string) error {
	s.mu.Lock()
	pid := s.units["steady"].pid
	s.mu.Unlock()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	return eventually("it was started again", func() bool {
		u := statusOf(s, "steady")
		return logged(dir, "steady", "on") == 2 && u.Active && u.Restarts == 1
	})
}

func unitStops(s *supervisor, dir, url string) error {
	for range 2 {
		if err := post(url+"/units/steady/stop", http.StatusOK); err != nil {
			return err
		}
	}
	if logged(dir, "steady", "off") != 1 || statusOf(s, "steady").Active {
		return fmt.Errorf("not stopped: %+v", s.status())
	}
	time.Sleep(restartDelay + 200*time.Millisecond)
	if statusOf(s, "steady").Active {
		return fmt.Errorf("started again although it was stopped")
	}
	if err := post(url+"/units/steady/start", http.StatusOK); err != nil {
		return err
	}
	return eventually("it runs again", func() bool { return logged(dir, "steady", "on") == 3 })
}

// orphansAreCollected looks for dead processes that nobody has asked about.
func orphansAreCollected(s *supervisor, dir, _ string) error {
	if err := s.Start("orphans"); err != nil {
		return err
	}
	if err := eventually("the orphan ends", func() bool { return logged(dir, "orphans", "ending") == 1 }); err != nil {
		return err
	}
	// /proc is the machine's: what is a child of ours is seen by its parent.
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	return eventually("no dead child is left", func() bool {
		threads, err := filepath.Glob("/proc/" + self + "/task/*/children")
		if err != nil || len(threads) == 0 {
			return false
		}
		for _, thread := range threads {
			children, _ := os.ReadFile(thread) // a thread may have ended
			for pid := range strings.FieldsSeq(string(children)) {
				if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && strings.Contains(string(stat), ") Z ") {
					return false
				}
			}
		}
		return true
	})
}
