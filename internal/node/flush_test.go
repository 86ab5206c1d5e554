package node

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// TestADiskThatHangsIsFlushedOnce: the caller comes back for ever, and each flush
// that hangs takes a thread and holds the mount.
func TestADiskThatHangsIsFlushedOnce(t *testing.T) {
	s := New(Config{Finder: &blockdev.Loop{}})
	path := t.TempDir()
	hung, err := s.flushes.Lock(t.Context(), path, 0) // as a flush does that hangs
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if err := s.flush(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		cancel()
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, there were %d", after, before)
	}
	hung()
	if err := s.flush(t.Context(), path); err != nil {
		t.Error(err)
	}
}
