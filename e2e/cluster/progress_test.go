package cluster

import (
	"io"
	"os"
	"strings"
	"testing"
)

// logFile is something that isn't a terminal.
func logFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func text(t *testing.T, f *os.File) string {
	t.Helper()
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestALogIsNotFloodedWithProgress(t *testing.T) {
	f := logFile(t)
	p := NewProgress(f)
	p.Step("begun")
	for n := range 1000 {
		p.Update("%d of 1000", n)
	}
	if _, err := io.WriteString(p, "said by another\n"); err != nil {
		t.Fatal(err)
	}
	if got, want := text(t, f), "[    0s] begun\n[    0s] said by another\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestATerminalShowsEveryStepInPlace(t *testing.T) {
	f := logFile(t)
	p := NewProgress(f)
	p.terminal = true
	p.Update("1 of 2")
	p.Update("2 of 2")
	p.Step("done")
	if got, want := text(t, f), "[    0s] 1 of 2\r\x1b[K[    0s] 2 of 2\r\x1b[K[    0s] done\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestABuildCountsItsPackagesAndKeepsItsComplaints(t *testing.T) {
	f := logFile(t)
	p := NewProgress(f)
	p.terminal = true
	b := build{title: "things"}
	said := b.follow(p, strings.NewReader("a/b\n# a/c\nc.go:1: no such thing\na/c\n"), map[string]bool{"a/b": true, "a/c": true})
	if want := "# a/c\nc.go:1: no such thing\n"; said != want {
		t.Errorf("complaints %q, want %q", said, want)
	}
	for _, want := range []string{"building things: 1 of 2 packages, a/b", "building things: 2 of 2 packages, a/c"} {
		if !strings.Contains(text(t, f), want) {
			t.Errorf("%q lacks %q", text(t, f), want)
		}
	}
}

func TestKubernetesKnowsItsVersion(t *testing.T) {
	for _, want := range []string{"gitVersion=v1.36.3", "gitMajor=1 ", "gitMinor=36 "} {
		if !strings.Contains(kubeFlags(), want) {
			t.Errorf("%s lacks %s", kubeFlags(), want)
		}
	}
	source, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(source + "/e2e/tools/kube/go.mod")
	if err != nil || !strings.Contains(string(module), "k8s.io/kubernetes "+kubernetesVersion+"\n") {
		t.Errorf("e2e/tools/kube pins another version than %s (%v)", kubernetesVersion, err)
	}
}
