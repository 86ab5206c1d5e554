package inside

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/guest/agent"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// patience bounds whatever a test waits for and that is going to happen.
const patience = time.Minute

// host is the connection to the host, one for the process.
var host struct {
	mu   sync.Mutex
	conn *wire.Conn
	id   int
}

// ask has the host do something and waits for the answer.
func ask(t testing.TB, r wire.Request) wire.Answer {
	t.Helper()
	host.mu.Lock()
	defer host.mu.Unlock()
	if host.conn == nil {
		host.conn = wire.NewConn(os.NewFile(agent.HostFD, "host"))
	}
	host.id++
	r.ID = host.id
	if err := host.conn.Send(wire.Message{Request: &r}); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := host.conn.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if m.Answer != nil && m.Answer.ID == r.ID {
			if err := m.Answer.Err(); err != nil {
				t.Fatal(err)
			}
			return *m.Answer
		}
	}
}

// plug attaches a disk, and pulls it when the test ends.
func plug(t testing.TB, d wire.Disk) {
	t.Helper()
	t.Cleanup(func() { pull(t, d.Image) })
	ask(t, wire.Request{Action: wire.Plug, Disk: d})
}

// pull detaches a disk that may be detached already.
func pull(t testing.TB, image string) {
	t.Helper()
	ask(t, wire.Request{Action: wire.Pull, Disk: wire.Disk{Image: image}})
}

// resize sets the size of a disk, after a while.
func resize(t testing.TB, image string, size int64, after time.Duration) {
	t.Helper()
	ask(t, wire.Request{Action: wire.Resize, Disk: wire.Disk{Image: image}, Size: size, After: after})
}

// hang lets a disk answer nothing any more, until the test resumes it.
func hang(t testing.TB, image string) {
	t.Helper()
	ask(t, wire.Request{Action: wire.Hang, Disk: wire.Disk{Image: image}})
}

// resume lets a disk answer again.
func resume(t testing.TB, image string) {
	t.Helper()
	ask(t, wire.Request{Action: wire.Resume, Disk: wire.Disk{Image: image}})
}

// hash returns what identifies the content of a disk, as the host has it.
func hash(t testing.TB, image string) string {
	t.Helper()
	return ask(t, wire.Request{Action: wire.Hash, Disk: wire.Disk{Image: image}}).Hash
}

// patient returns a context that ends with the test, or when patience does.
func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for something that nobody announces.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	ctx := patient(t)
	for !is() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
