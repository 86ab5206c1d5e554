package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// emulator answers each command with what script has for it, and then hangs up.
func emulator(t *testing.T, script map[string]string) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	t.Cleanup(func() { _ = server.Close(); <-done })
	go func() {
		defer close(done)
		defer func() { _ = server.Close() }()
		_, _ = fmt.Fprintln(server, `{"QMP": {"version": {}}}`)
		lines := bufio.NewScanner(server)
		for lines.Scan() {
			var request struct {
				Execute string
				ID      int
			}
			if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
				t.Errorf("%s: %v", lines.Text(), err)
				return
			}
			reply, known := script[request.Execute]
			if !known {
				return
			}
			_, _ = fmt.Fprintln(server, strings.ReplaceAll(reply, "ID", fmt.Sprint(request.ID)))
		}
	}()
	return client
}

const ok = `{"return": {}, "id": ID}`

func TestACommandIsAnswered(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := New(ctx, emulator(t, map[string]string{
		"qmp_capabilities": ok, "good": ok,
		"bad": `{"error": {"class": "GenericError", "desc": "no such disk"}, "id": ID}`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Execute(ctx, "good", map[string]any{"id": "disk1"}); err != nil {
		t.Error(err)
	}
	if err := c.Execute(ctx, "bad", nil); err == nil || err.Error() != "bad: GenericError: no such disk" {
		t.Errorf("got %v", err)
	}
	if err := c.Execute(ctx, "unknown", nil); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want %v", err, ErrGone)
	}
	_ = c.Close()
}

func TestAnEventWakesWhoeverExpectsIt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := New(ctx, emulator(t, map[string]string{
		"qmp_capabilities": ok,
		"device_del": `{"event": "DEVICE_DELETED", "data": {"device": "one"}}
{"event": "STOP"}
{"return": {}, "id": ID}`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	of := func(device string) func(json.RawMessage) bool {
		return func(data json.RawMessage) bool { return strings.Contains(string(data), device) }
	}
	one, two := c.Expect("DEVICE_DELETED", of("one")), c.Expect("DEVICE_DELETED", of("two"))
	if err := c.Execute(ctx, "device_del", nil); err != nil {
		t.Error(err)
	}
	select {
	case <-one:
	case <-ctx.Done():
		t.Error("the event was lost")
	}
	select {
	case <-two:
		t.Error("the event of another device was taken for this one's")
	default:
	}
	_ = c.Close()
}
