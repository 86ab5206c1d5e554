package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestControlGroupsAreFoundOnEveryKindOfMachine(t *testing.T) {
	const (
		unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 none rw,nsdelegate\n"
		hybrid  = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n"
		cpu     = "32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup none rw,cpu\n"
		memory  = "33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup none rw,memory\n"
		other   = "25 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
	)
	for name, c := range map[string]struct {
		mountinfo, unified string
		legacy             []string
	}{
		"version 2":              {other + unified, "/sys/fs/cgroup", nil},
		"version 1 beside it":    {cpu + hybrid + memory, "/sys/fs/cgroup/unified", []string{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"}},
		"the same mounted twice": {cpu + cpu + hybrid + unified, "/sys/fs/cgroup/unified", []string{"/sys/fs/cgroup/cpu"}},
	} {
		g, err := findGroups(write(t, c.mountinfo))
		if err != nil || g.unified != c.unified || !slices.Equal(g.legacy, c.legacy) {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
	if _, err := findGroups(write(t, other+cpu)); err == nil || !strings.Contains(err.Error(), "mount -t cgroup2") {
		t.Errorf("without cgroup2: %v", err)
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// testGroups are the machine's, with a root that no cluster has.
func testGroups(t *testing.T) groups {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("control groups need root: run the tests as root")
	}
	g, err := Paths{Dir: t.TempDir()}.groups()
	if err != nil {
		t.Fatal(err)
	}
	g.root = fmt.Sprintf("cinder-e2e-test-%d", os.Getpid())
	t.Cleanup(func() {
		if err := g.kill(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return g
}

func TestWhateverAProcessStartsEndsWithItsGroup(t *testing.T) {
	g := testGroups(t)
	p := process{
		group: []string{"host", "parent"}, log: filepath.Join(t.TempDir(), "log"),
		// A child that left its session, its parent and its signals behind.
		args: []string{"/bin/sh", "-c", "setsid sh -c 'trap \"\" TERM; sleep 1000 & wait' & sleep 1000"},
	}
	if alive, err := g.alive(p); alive || err != nil {
		t.Fatalf("alive before it was started: %v", err)
	}
	if err := g.start(p); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		pids, err := g.pids(p.group...)
		if err != nil {
			t.Fatal(err)
		}
		if len(pids) == 4 { // both shells, both sleeps
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes %v, want 4", pids)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := g.kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if alive, err := g.alive(p); alive || err != nil {
		t.Errorf("alive after it was killed: %v", err)
	}
	if exists(g.dir()) {
		t.Errorf("%s is left", g.dir())
	}
	if err := g.kill(t.Context()); err != nil {
		t.Errorf("killed again: %v", err)
	}
}

// A machine without version 1 has all controllers in the unified hierarchy. There
// no group has both processes and controllers for those below it.
func TestAGroupWithProcessesOfItsOwnIsNamedWithTheWayOut(t *testing.T) {
	g := testGroups(t)
	p := process{group: []string{"busy"}, log: filepath.Join(t.TempDir(), "log"), args: []string{"/bin/sleep", "1000"}}
	if err := os.MkdirAll(g.dir(p.group...), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{g.unified, g.dir(), g.dir(p.group...)} {
		if err := enableControllers(dir); err != nil {
			t.Fatalf("nothing is in the way: %v", err)
		}
	}
	controllers, err := os.ReadFile(filepath.Join(g.dir(p.group...), "cgroup.controllers"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(controllers)) {
		if err := os.WriteFile(filepath.Join(g.dir(p.group...), "cgroup.subtree_control"), []byte("-"+name), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.start(p); err != nil {
		t.Fatal(err)
	}
	err = enableControllers(g.dir(p.group...))
	if len(controllers) == 0 { // all of them are version 1's: there is nothing to enable
		if err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "mkdir -p self") || !strings.Contains(err.Error(), g.dir(p.group...)) {
		t.Errorf("got %v", err)
	}
}

func TestAProcessThatEndsIsToldWithItsLog(t *testing.T) {
	g := testGroups(t)
	p := process{
		group: []string{"host", "liar"}, log: filepath.Join(t.TempDir(), "log"),
		args: []string{"/bin/sh", "-c", "echo no such option; exit 1"},
	}
	never := func(ctx context.Context) error { return errors.New("not yet") }
	err := g.ensure(t.Context(), p, time.Minute, never)
	if err == nil || !strings.Contains(err.Error(), "no such option") || !strings.Contains(err.Error(), "it ended") {
		t.Errorf("%v", err)
	}
}

func TestOnlyWhatIsDeadIsStarted(t *testing.T) {
	g := testGroups(t)
	log := filepath.Join(t.TempDir(), "log")
	p := process{group: []string{"host", "sleeper"}, log: log, args: []string{"/bin/sh", "-c", "echo started; exec sleep 1000"}}
	ready := func(ctx context.Context) error {
		if data, err := os.ReadFile(log); err != nil || len(data) == 0 {
			return errors.New("not yet")
		}
		return nil
	}
	for range 2 {
		if err := g.ensure(t.Context(), p, time.Minute, ready); err != nil {
			t.Fatal(err)
		}
	}
	wantStarts(t, log, 1)
	if err := g.kill(t.Context(), p.group...); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(log, 0); err != nil {
		t.Fatal(err)
	}
	if err := g.ensure(t.Context(), p, time.Minute, ready); err != nil {
		t.Fatal(err)
	}
	wantStarts(t, log, 1)
}

func wantStarts(t *testing.T, log string, want int) {
	t.Helper()
	data, err := os.ReadFile(log)
	if got := strings.Count(string(data), "started"); err != nil || got != want {
		t.Errorf("started %d times, want %d (%v)", got, want, err)
	}
}
