package cluster

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// own drops what belongs to a cluster that happens to be up.
func own(p Paths, left []string) []string {
	return slices.DeleteFunc(left, func(s string) bool { return !strings.Contains(s, p.Dir) })
}

func TestLeftoversAreFoundAndGoneAfterTheirRemoval(t *testing.T) {
	p := Paths{Dir: t.TempDir()}
	left, err := p.Leftovers(t.Context())
	if err != nil || len(own(p, left)) > 0 {
		t.Fatalf("of nothing: %v %v", left, err)
	}
	mounted, volume := p.run("mounted"), p.run("volume")
	if err := os.MkdirAll(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(volume, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mounted, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) })
	d := bind(t, p.Dir, volume, "left")
	left, err = p.Leftovers(t.Context())
	want := []string{"loop device /dev/" + d.name + " on " + volume, "mount " + mounted, "directory " + p.run()}
	if err != nil || !slices.Equal(own(p, left), want) {
		t.Errorf("%q, want %q (%v)", own(p, left), want, err)
	}
	if err := p.unmountAll(); err != nil {
		t.Fatal(err)
	}
	if err := d.detach(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(p.run()); err != nil {
		t.Fatal(err)
	}
	if left, err := p.Leftovers(t.Context()); err != nil || len(own(p, left)) > 0 {
		t.Errorf("afterwards: %v %v", left, err)
	}
}

func TestTwoCommandsDoNotChangeAClusterAtOnce(t *testing.T) {
	p := Paths{Dir: t.TempDir()}
	inside := false
	err := p.locked(t.Context(), func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		return p.locked(ctx, func() error { inside = true; return nil })
	})
	if err == nil || inside || !strings.Contains(err.Error(), "another command is changing the cluster") {
		t.Errorf("both at once: %v %v", inside, err)
	}
	if err := p.locked(t.Context(), func() error { inside = true; return nil }); err != nil || !inside {
		t.Errorf("after the other one: %v", err)
	}
}
