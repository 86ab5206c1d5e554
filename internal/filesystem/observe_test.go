package filesystem

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestHowProgramsEndIsCounted, each run once, by its own result.
func TestHowProgramsEndIsCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	f := New(Options{Metrics: registry})
	run := func(name string, args ...string) { _, _, _ = f.Tool(context.Background(), nil, name, args...) }
	run("true")
	run("true")
	run("sh", "-c", "exit 3")
	run("sh", "-c", "kill -9 $$")
	run("/nowhere/mkfs")
	run("mkfs.ext3", "-V")
	run("e2fsck", "-V")
	for _, labels := range [][]string{
		{"true", "", "success"}, {"sh", "", "exit_3"}, {"sh", "", "killed"}, {"/nowhere/mkfs", "", "failed"},
		{"mkfs.ext3", "ext3", "success"}, {"e2fsck", "ext4", "success"},
	} {
		if !f.seen.durations.DeleteLabelValues(labels...) {
			t.Errorf("no series %q", labels)
		}
	}
	if n := testutil.CollectAndCount(f.seen.durations); n != 0 {
		t.Errorf("%d series more", n)
	}
}
