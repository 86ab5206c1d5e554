package guest_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/guest/machine"
)

const (
	// testTime bounds one test inside.
	testTime = 3 * time.Minute
	// wholeTime bounds all of it. An emulated guest on two cores that others
	// use too needs a third of that.
	wholeTime = 8 * time.Minute
)

// TestGuest runs every test of package inside in one guest, one after the
// other. They share nothing but the guest: each has its disks for itself, and
// what it leaves is an error.
func TestGuest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test keeps a kernel in root's cache and reads root's programs: run it as root")
	}
	ctx, cancel := context.WithTimeout(interrupted, wholeTime)
	defer cancel()
	began := time.Now()
	img, tests := build(ctx, t)
	t.Logf("image built in %v", time.Since(began).Round(time.Millisecond))

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
	began = time.Now()
	for _, name := range tests {
		if ctx.Err() != nil {
			t.Fatalf("not all tests have run: %v", context.Cause(ctx))
		}
		t.Run(name, func(t *testing.T) { runInside(ctx, t, m, name) })
	}
	t.Logf("%d tests in %v", len(tests), time.Since(began).Round(time.Millisecond))
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
