package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newTestFleet is a fleet whose programs are not running.
func newTestFleet(t *testing.T) (*fleet, *bytes.Buffer, context.Context) {
	t.Helper()
	var out bytes.Buffer
	ctx, failed := context.WithCancelCause(t.Context())
	t.Cleanup(func() { failed(nil) })
	f, err := newFleet(newTestHome(t), binaries{}, newReport(&out, style{Width: 80}), failed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.journal.Close() })
	f.meter = &meter{admin: &countingCloud{}}
	f.ready.Store(true)
	return f, &out, ctx
}

func TestTheTailOfALog(t *testing.T) {
	f, _, _ := newTestFleet(t)
	if got := f.tail(Controller, 3); got != nil {
		t.Errorf("no log: %q", got)
	}
	long := strings.Repeat(strings.Repeat("x", 99)+"\n", 2000) + "one\ntwo\nthree\n"
	if err := os.WriteFile(f.home.log(Controller), []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"two", "three"}, f.tail(Controller, 2)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestADeathIsToldWithItsReason(t *testing.T) {
	f, out, ctx := newTestFleet(t)
	f.died(Node1, "signal: segmentation fault", true)
	f.reasons[Node1] = "killed 4 ms into NodeStageVolume"
	f.died(Node1, "signal: killed", true)
	want := "  note node1 ended unexpectedly (signal: segmentation fault); started again\n" +
		"  note node1 killed 4 ms into NodeStageVolume; started again\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if ctx.Err() != nil {
		t.Error("the demo has ended")
	}
}

func TestAProgramThatIsGivenUpEndsTheDemoWithItsLastWord(t *testing.T) {
	f, _, ctx := newTestFleet(t)
	if err := os.WriteFile(f.home.log(Controller), []byte("x\nunknown flag\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.died(Controller, "controller does not stay up: exit status 2", false)
	var failure *RunError
	if !errors.As(context.Cause(ctx), &failure) || failure.Error() != "controller does not stay up: exit status 2: unknown flag" {
		t.Errorf("got %v", context.Cause(ctx))
	}
}
