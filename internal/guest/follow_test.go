package guest_test

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/guest/machine"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// runInside runs a test in the guest and lets it appear as t, with its subtests.
func runInside(ctx context.Context, t *testing.T, m *machine.Machine, name string) {
	t.Helper()
	// Whoever waits for the guest is then told that it has ended.
	defer context.AfterFunc(ctx, m.Kill)()
	if err := m.Agent.Send(wire.Message{Run: &wire.Run{Test: name, Timeout: testTime}}); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	ended := make(chan error, 1)
	go func() {
		defer close(lines)
		ended <- serve(ctx, m, lines)
	}()
	follow(t, name, lines)
	for line := range lines {
		if _, ok := parse(line); !ok {
			say(t, line)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := m.Reset(ctx); err != nil {
		t.Errorf("the disks of the test: %v", err)
	}
}

// serve does what the guest asks for, and passes on the lines that it writes,
// until the test has ended. It tells what went wrong, but for the test itself.
func serve(ctx context.Context, m *machine.Machine, lines chan<- string) error {
	for {
		message, err := m.Agent.Receive()
		if err != nil {
			return fmt.Errorf("the guest has ended: %w", err)
		}
		switch {
		case message.Output != nil:
			lines <- *message.Output
		case message.Request != nil:
			answer := m.Do(ctx, *message.Request)
			if err := m.Agent.Send(wire.Message{Answer: &answer}); err != nil {
				return err
			}
		case message.Ended != nil:
			if len(message.Ended.Left) > 0 {
				return fmt.Errorf("the test has left mounted: %v", message.Ended.Left)
			}
			if message.Ended.Status != 0 && message.Ended.Status != 1 {
				return fmt.Errorf("the test's process ended with status %d", message.Ended.Status)
			}
			return nil
		}
	}
}

// marks is what may surround such a line: test binaries that are asked for
// output that can be parsed begin it with a control character.
const marks = " \x16\r"

// event is a line by which a test says how it goes.
type event struct {
	kind, name string
}

// parse returns the event in a line.
func parse(line string) (event, bool) {
	line = strings.Trim(line, marks)
	if found := regexp.MustCompile(`^=== (RUN|NAME|PAUSE|CONT)\s*(\S*)$`).FindStringSubmatch(line); found != nil {
		return event{found[1], found[2]}, true
	}
	if line == "PASS" || line == "FAIL" {
		return event{kind: "END"}, true // of the process
	}
	if found := regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+) \(\S+\)$`).FindStringSubmatch(line); found != nil {
		return event{found[1], found[2]}, true
	}
	return event{}, false
}

// follow consumes the lines of the test with that name until its result, which
// becomes that of t.
func follow(t *testing.T, name string, lines <-chan string) {
	t.Helper()
	for line := range lines {
		e, ok := parse(line)
		switch {
		case !ok:
			say(t, line)
		case e.kind == "RUN" && path.Dir(e.name) == name:
			followed := false
			t.Run(path.Base(e.name), func(t *testing.T) {
				followed = true
				follow(t, e.name, lines)
			})
			if !followed { // not among those that were asked for
				skip(e.name, lines)
			}
		case e.name == name && e.kind == "FAIL":
			t.Fail()
			return
		case e.name == name && e.kind == "SKIP":
			// A guest has all that a test can ask for.
			t.Error("the test has skipped itself")
			return
		case e.name == name && e.kind == "PASS":
			return
		}
	}
	t.Error("the test has ended without a result")
}

// skip consumes the lines of a test until its result.
func skip(name string, lines <-chan string) {
	for line := range lines {
		if e, ok := parse(line); ok && e.name == name && (e.kind == "PASS" || e.kind == "FAIL" || e.kind == "SKIP") {
			return
		}
	}
}

// say writes a line of the guest as it is.
func say(t *testing.T, line string) {
	t.Helper()
	_, _ = fmt.Fprintln(t.Output(), strings.TrimPrefix(line, "    "))
}
