package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// supervisor is the only one of this process, as New asks for.
var supervisor = sync.OnceValue(New)

// until waits until a service has ended, or runs.
func until(t *testing.T, s *Supervisor, name string, done func(State) bool) State {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if state := s.States()[name]; done(state) {
			return state
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is %+v", name, s.States()[name])
		}
	}
}

func ended(s State) bool { return !s.Running }

func TestServicesRunAndEnd(t *testing.T) {
	s, dir := supervisor(), t.TempDir()
	log := filepath.Join(dir, "log")
	sleeper := Service{Name: "sleeper", Args: []string{"sleep", "600"}, Log: log}
	for range 2 { // the second finds it running
		if err := s.Start(sleeper); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Start(Service{Name: "failing", Args: []string{"sh", "-c", "echo out of order; exit 3"}, Log: log}); err != nil {
		t.Fatal(err)
	}
	if got := until(t, s, "failing", ended); got.Exit != "ended with status 3" {
		t.Errorf("failing: %s", got.Exit)
	}
	if text, _ := os.ReadFile(log); strings.TrimSpace(string(text)) != "out of order" {
		t.Errorf("the log holds %q", text)
	}
	if !s.States()["sleeper"].Running {
		t.Error("the sleeper does not run")
	}
	if err := s.Stop("sleeper"); err != nil {
		t.Fatal(err)
	}
	if got := s.States()["sleeper"].Exit; got != "killed by "+unix.SIGTERM.String() {
		t.Errorf("sleeper: %s", got)
	}
	if err := s.Signal("sleeper", unix.SIGHUP); err == nil {
		t.Error("a service that has ended takes signals")
	}
}

func TestAServiceTakesItsWorkersAlong(t *testing.T) {
	s, dir := supervisor(), t.TempDir()
	pids := filepath.Join(dir, "worker")
	err := s.Start(Service{Name: "master", Args: []string{"sh", "-c", "sleep 600 & echo $! > " + pids + ".new; mv " + pids + ".new " + pids + "; wait"}, Env: []string{"PATH=/usr/bin:/bin"}, Log: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	until(t, s, "master", func(State) bool { _, err := os.Stat(pids); return err == nil })
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	worker := strings.TrimSpace(string(text))
	if err := s.Stop("master"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		state, err := os.ReadFile("/proc/" + worker + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the worker %s still runs", worker)
		}
	}
}

func TestAProgramThatIsMissing(t *testing.T) {
	err := supervisor().Start(Service{Name: "x", Args: []string{"no-such-program"}, Log: filepath.Join(t.TempDir(), "log")})
	if err == nil || !strings.Contains(err.Error(), "no-such-program is missing") {
		t.Errorf("got %v", err)
	}
}

func TestEnterRefusesTheMachineItself(t *testing.T) {
	if err := Enter(t.TempDir()); err == nil {
		t.Error("the mounts of the machine itself would have been changed")
	}
}

func TestWhatOthersHaveMountedIsLetGoOf(t *testing.T) {
	for point, want := range map[string]bool{
		"/": true, "/proc": true, "/proc/sys/fs": true, "/sys/fs/cgroup": true, "/dev/pts": true, "/var": true, "/var/tmp/state": true,
		"/usr": true, "/usr/share": true, "/etc": true, "/etc/hosts": true,
		"/var/tmp/state/run": false, "/run": false, "/mnt/disk": false, "/var/tmp/st": false, "/development": false,
		"/usrlocal": false, "/etc.old": false,
	} {
		if got := needed(point, "/var/tmp/state"); got != want {
			t.Errorf("%s: %t", point, got)
		}
	}
}
