package demo

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// obituary collects what a supervisor says about deaths.
type obituary struct {
	mu    sync.Mutex
	lines []string
	again []bool
	event chan struct{}
}

func newObituary() *obituary { return &obituary{event: make(chan struct{}, 100)} }

func (o *obituary) died(name, reason string, again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, name+": "+reason)
	o.again = append(o.again, again)
	o.event <- struct{}{}
}

func (o *obituary) await(t *testing.T) {
	t.Helper()
	select {
	case <-o.event:
	case <-time.After(time.Minute):
		t.Fatal("nobody died")
	}
}

func shell(t *testing.T, script string) program {
	t.Helper()
	return program{
		name: "child", path: "/bin/sh", args: []string{"-c", script}, env: []string{"PATH=" + os.Getenv("PATH")},
		log: filepath.Join(t.TempDir(), "log"), orphan: syscall.SIGKILL,
	}
}

// awaitLines waits until the child has printed n lines and returns them.
func awaitLines(t *testing.T, path string, n int) []string {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		b, err := os.ReadFile(path)
		if lines := strings.Fields(string(b)); err == nil && len(lines) >= n {
			return lines
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("no %d lines in %s", n, path)
	return nil
}

func stopSoon(t *testing.T, c *child, patience time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.Stop(ctx)
}

func TestAKilledChildIsStartedAgain(t *testing.T) {
	defer goleak.VerifyNone(t)
	deaths := newObituary()
	p := shell(t, "echo $$; exec sleep 60")
	c, err := supervise(p, deaths.died)
	if err != nil {
		t.Fatal(err)
	}
	first := awaitLines(t, p.log, 1)[0]
	if !c.Kill() {
		t.Fatal("no process to kill")
	}
	deaths.await(t)
	both := awaitLines(t, p.log, 2)
	if both[1] == first {
		t.Errorf("the same process %s runs again", first)
	}
	if err := stopSoon(t, c, time.Minute); err != nil {
		t.Error(err)
	}
	if got := strings.Join(deaths.lines, ","); got != "child: signal: killed" {
		t.Errorf("deaths: %s", got)
	}
}

func TestAKillReachesWhatTheChildHasStarted(t *testing.T) {
	defer goleak.VerifyNone(t)
	deaths := newObituary()
	p := shell(t, "sleep 60 & echo $!; wait")
	c, err := supervise(p, deaths.died)
	if err != nil {
		t.Fatal(err)
	}
	grandchild := awaitLines(t, p.log, 1)[0]
	c.Kill()
	deaths.await(t)
	awaitGone(t, grandchild)
	if err := stopSoon(t, c, time.Minute); err != nil {
		t.Error(err)
	}
}

// awaitGone waits until a process no longer runs. One that nobody has waited
// for yet is gone too.
func awaitGone(t *testing.T, pid string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("process %s still runs", pid)
}

func TestAChildThatDoesNotStopIsKilled(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := shell(t, "trap '' TERM; echo ready; while :; do sleep 60; done")
	c, err := supervise(p, newObituary().died)
	if err != nil {
		t.Fatal(err)
	}
	awaitLines(t, p.log, 1)
	err = stopSoon(t, c, 100*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "child did not stop") {
		t.Errorf("got %v, want an error that says that it was killed", err)
	}
}

func TestAChildThatNeverStaysUpIsGivenUp(t *testing.T) {
	defer goleak.VerifyNone(t)
	deaths := newObituary()
	c, err := supervise(shell(t, "exit 3"), deaths.died)
	if err != nil {
		t.Fatal(err)
	}
	for range maxDeaths {
		deaths.await(t)
	}
	<-c.done
	if c.Err() == nil || !strings.Contains(c.Err().Error(), "exit status 3") {
		t.Errorf("got %v, want the exit status", c.Err())
	}
	if deaths.again[maxDeaths-1] {
		t.Error("the last death was announced with another start")
	}
	if err := stopSoon(t, c, time.Second); err != nil {
		t.Error(err)
	}
}

func TestAProgramThatIsNotThereIsAnError(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := shell(t, "")
	p.path = "/nowhere/program"
	if _, err := supervise(p, newObituary().died); err == nil || !strings.Contains(err.Error(), "start child") {
		t.Errorf("got %v, want an error that names the child", err)
	}
}

func TestAChildThatIsKilledOnPurposeIsNotGivenUp(t *testing.T) {
	defer goleak.VerifyNone(t)
	deaths := newObituary()
	p := shell(t, "echo x; exec sleep 60")
	c, err := supervise(p, deaths.died)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxDeaths + 1 {
		awaitLines(t, p.log, i+1)
		if !c.Kill() {
			t.Fatal("no process to kill, and it has printed something")
		}
		deaths.await(t)
	}
	if c.Err() != nil {
		t.Error(c.Err())
	}
	if err := stopSoon(t, c, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestAStopDuringTheRestartPauseEndsTheChild(t *testing.T) {
	defer goleak.VerifyNone(t)
	deaths := newObituary()
	p := shell(t, "echo x; exec sleep 60")
	c, err := supervise(p, deaths.died)
	if err != nil {
		t.Fatal(err)
	}
	awaitLines(t, p.log, 1)
	c.Kill()
	deaths.await(t)
	if err := stopSoon(t, c, time.Minute); err != nil {
		t.Error(err)
	}
	if c.Kill() {
		t.Error("a process runs after the stop")
	}
}
