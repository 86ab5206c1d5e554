package guest_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/guest/image"
	"github.com/cinder-csi/cinder-csi/internal/guest/machine"
)

const (
	// guests is the number of guests at once: one for each core of a small machine.
	guests = 2
	// testTime bounds one test inside.
	testTime = 3 * time.Minute
	// wholeTime bounds all of it. An emulated guest on two cores that others
	// use too needs a third of that.
	wholeTime = 8 * time.Minute
)

// TestGuest runs every test of package inside, in two guests at once, since an
// emulated one keeps one core busy. Each takes the next test of the queue. Tests
// share nothing but a guest: each has its disks for itself, and what it leaves is
// an error.
func TestGuest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test keeps a kernel in root's cache and reads root's programs: run it as root")
	}
	ctx, cancel := context.WithTimeout(interrupted, wholeTime)
	defer cancel()
	began := time.Now()
	img, tests := build(ctx, t)
	t.Logf("image built in %v", time.Since(began).Round(time.Millisecond))

	began = time.Now()
	queue := make(chan string, len(tests))
	for _, name := range tests {
		queue <- name
	}
	close(queue)
	// t.Run returns when the guests have ended.
	t.Run("guests", func(t *testing.T) {
		for i := range guests {
			t.Run(strconv.Itoa(i+1), func(t *testing.T) {
				t.Parallel()
				work(ctx, t, img, queue)
			})
		}
	})
	if left := len(queue); left > 0 {
		t.Fatalf("%d tests have not run: %v", left, context.Cause(ctx))
	}
	t.Logf("%d tests in %v", len(tests), time.Since(began).Round(time.Millisecond))
}

// work starts a guest, in which it runs the tests of the queue until that is
// empty. The guest's boot disk must be the same afterwards.
func work(ctx context.Context, t *testing.T, img *image.Image, queue <-chan string) {
	server := uuid.NewString()
	document := metadataOf(t, server, "guest")
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := start(ctx, t, machine.Config{
		Image: img, BootVolume: uuid.NewString(), Server: document,
		OtherServer: metadataOf(t, uuid.NewString(), "impostor"),
		Relay:       fmt.Sprintf("env %s=%s '%s'", relayVariable, serveMetadata(t, document), executable),
	})
	before, err := m.HashBootDisk()
	if err != nil {
		t.Fatal(err)
	}
	for name := range queue {
		t.Run(name, func(t *testing.T) { runInside(ctx, t, m, name) })
		if ctx.Err() != nil {
			t.Fatalf("not all tests have run: %v", context.Cause(ctx))
		}
	}
	if err := m.PowerOff(ctx); err != nil {
		t.Error(err)
	}
	after, err := m.HashBootDisk()
	if err != nil {
		t.Fatal(err)
	}
	if before != after {
		t.Error("the boot disk has been written to")
	}
	if t.Failed() {
		t.Logf("console:\n%s", m.Console())
	}
}
