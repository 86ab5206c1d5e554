package stack

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func folder(t *testing.T) *Stack {
	t.Helper()
	s, err := New(t.TempDir(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestARelativeFolderIsRefused(t *testing.T) {
	if _, err := New("cloud", io.Discard); err == nil || !strings.Contains(err.Error(), DirVariable) || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("got %v", err)
	}
}

// TestPartsSayWhenTheyBeginAndWhenTheyAreOver: one that hangs is known by name.
func TestPartsSayWhenTheyBeginAndWhenTheyAreOver(t *testing.T) {
	var out strings.Builder
	s, err := New(t.TempDir(), &out)
	if err != nil {
		t.Fatal(err)
	}
	err = s.step("part", func() error {
		if !strings.HasSuffix(out.String(), "begins  part\n") {
			t.Errorf("at the beginning it says %q", out.String())
		}
		return nil
	})
	if err != nil || !strings.HasSuffix(out.String(), " s  part\n") {
		t.Errorf("at the end it says %q, %v", out.String(), err)
	}
}

// TestDownLeavesAloneWhatIsNoCloud: a folder that was named by mistake keeps
// what it has.
func TestDownLeavesAloneWhatIsNoCloud(t *testing.T) {
	s := folder(t)
	precious := s.path("precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Down(t.Context()); err == nil || !strings.Contains(err.Error(), "left alone") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestDownRemovesWhatAnAttemptHasLeft(t *testing.T) {
	s := folder(t)
	if err := s.write(marker, "", 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
			t.Errorf("the folder is still there: %v", err)
		}
	}
}

// TestDownKillsNobodyElse: the id of a supervisor that has ended may be another
// process's by now.
func TestDownKillsNobodyElse(t *testing.T) {
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	start, err := started(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := end(t.Context(), leader{PID: other.Process.Pid, Start: start - 1}); err != nil {
		t.Fatal(err)
	}
	if now, err := started(other.Process.Pid); err != nil || now != start {
		t.Fatalf("the other process is gone: %v", err)
	}
	// And the one that is meant does end.
	ended := make(chan error, 1)
	go func() { ended <- other.Wait() }()
	if err := end(t.Context(), leader{PID: other.Process.Pid, Start: start}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("it still runs")
	}
}

// TestStartOfAProcessWithAStrangeName: what is in brackets may hold anything.
func TestStartOfAProcessWithAStrangeName(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a) S 1 (b")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	mine, err := started(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := started(cmd.Process.Pid); err != nil || got < mine {
		t.Errorf("started at %d, %v; this test at %d", got, err, mine)
	}
}

// TestConfigurationsAreComplete: no template is left with a gap, and no secret
// is readable for others.
func TestConfigurationsAreComplete(t *testing.T) {
	s := folder(t)
	s.secret = "the-secret"
	count := 0
	err := fs.WalkDir(files, "conf", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		if err := s.render(path); err != nil {
			return err
		}
		text, err := os.ReadFile(s.path(path))
		if err != nil {
			return err
		}
		for _, gap := range []string{"{{", "<no value>", "<nil>"} {
			if strings.Contains(string(text), gap) {
				t.Errorf("%s holds %q", path, gap)
			}
		}
		info, err := os.Stat(s.path(path))
		if err == nil && strings.Contains(string(text), s.secret) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s holds the secret and has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil || count == 0 {
		t.Fatalf("%d configurations, %v", count, err)
	}
}

// TestNetworkServiceHasNothingOfAnything: Nova asks for lists, and gets them.
func TestNetworkServiceHasNothingOfAnything(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(nothing))
	defer server.Close()
	for path, want := range map[string]string{
		"/": `"v2.0"`, "/v2.0/ports.json?device_id=x": `{"ports":[]}`, "/v2.0/security-groups": `{"security_groups":[]}`, "/v2.0/ports/x": "NotFound",
	} {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil || !strings.Contains(string(body), want) || !json.Valid(body) {
			t.Errorf("%s: %s, %v", path, body, err)
		}
	}
}

func TestOnlyServicesThatThereAreAreStarted(t *testing.T) {
	err := folder(t).Restart(t.Context(), "nova-compute-nowhere")
	if err == nil || !strings.Contains(err.Error(), "no service") {
		t.Errorf("got %v", err)
	}
}

// TestWaitingTellsWhatIsMissing: whoever waits in vain learns for what.
func TestWaitingTellsWhatIsMissing(t *testing.T) {
	err := folder(t).wait(t.Context(), "the pool", 50*time.Millisecond, func(context.Context) error {
		return missing("pool of", []string{"ceph1"}, []string{"ceph1", "nfs1"})
	})
	if err == nil || !strings.Contains(err.Error(), "the pool") || !strings.Contains(err.Error(), "pool of nfs1 is not up") {
		t.Errorf("got %v", err)
	}
}

func TestLoadSaysHowToGetACloud(t *testing.T) {
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "make openstack-up") {
		t.Errorf("got %v", err)
	}
}
