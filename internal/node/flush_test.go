package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// TestADiskThatHangsIsFlushedOnce: the caller comes back for ever, and each flush
// that hangs takes a thread and holds the mount.
func TestADiskThatHangsIsFlushedOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Finder: &blockdev.Loop{}})
		hang := make(chan struct{})
		go func() {
			_, _ = s.flushes.Do(t.Context(), dir, func() (struct{}, error) { <-hang; return struct{}{}, nil })
		}()
		synctest.Wait()
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := s.flush(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the deadline", err)
			}
			cancel()
		}
		close(hang)
		if err := s.flush(t.Context(), dir); err != nil {
			t.Error(err)
		}
	})
}
