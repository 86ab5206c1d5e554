package filesystem

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestADeviceThatHangsIsReadOnce: the caller comes back for as long as its pod
// waits, and each reading that hangs takes threads of the process.
func TestADeviceThatHangsIsReadOnce(t *testing.T) {
	f := New(Options{})
	var begun atomic.Int32
	hung := make(chan struct{})
	read := func() (int, error) {
		begun.Add(1)
		<-hung
		return 1, nil
	}
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if _, err := abandonable(ctx, f, "/dev/hung", read); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the deadline", err)
		}
		cancel()
	}
	if n := begun.Load(); n != 1 {
		t.Errorf("%d readings hang, want 1", n)
	}
	if got, err := abandonable(soon(t), f, "/dev/other", func() (int, error) { return 2, nil }); got != 2 || err != nil {
		t.Errorf("another device: got %d, %v", got, err)
	}
	close(hung)
	if got, err := abandonable(soon(t), f, "/dev/hung", read); got != 1 || err != nil {
		t.Errorf("when it has come back: got %d, %v", got, err)
	}
}

// TestWhatAToolSaysTakesLittleMemory: the end of it says how it went.
func TestWhatAToolSaysTakesLittleMemory(t *testing.T) {
	output, status, err := New(Options{}).Tool(t.Context(), nil, "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x; echo >&2; echo the end; exit 3")
	if err != nil || status != 3 {
		t.Fatal(status, err)
	}
	if len(output) > maxOutput || !strings.HasSuffix(output, "xx\nthe end") {
		t.Errorf("it kept %d bytes, and they end with %q", len(output), words(output))
	}
}
