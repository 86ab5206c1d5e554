package driver

import (
	"context"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// attacherPatience is what a sidecar gives one call.
const attacherPatience = 15 * time.Second

// listed are the volumes that Nova has on a server.
func (r *rig) listed(server string) []string {
	r.Helper()
	got, err := r.member.Compute(r.Context(), "60", http.MethodGet, "/servers/"+r.cloud.Servers[server]+"/os-volume_attachments", nil)
	r.must(err)
	var answer struct {
		Attachments []struct {
			VolumeID string `json:"volumeId"`
		} `json:"volumeAttachments"`
	}
	r.must(got.Into(&answer))
	var ids []string
	for _, a := range answer.Attachments {
		ids = append(ids, a.VolumeID)
	}
	return ids
}

// unfinished checks that a call tells the sidecar to ask again, and of no end.
func (r *rig) unfinished(what string, err error) {
	r.Helper()
	r.Logf("%s: %v", what, err)
	if !slices.Contains([]codes.Code{codes.DeadlineExceeded, codes.Unavailable, codes.Aborted}, status.Code(err)) {
		r.Errorf("%s: got %v, want an answer after which the sidecar asks again", what, err)
	}
}

// TestComputeThatStops: the host of a server is down while volumes come and go.
// When it is there again all is as it was asked for.
func TestComputeThatStops(t *testing.T) {
	const compute = "nova-compute-fake2"
	r := start(t, "cloud.conf")
	server := r.boot("stops", "az2")
	coming, going := r.create(request("coming")), r.create(request("going"))
	r.attach(going, server, false)
	r.must(r.stack.Supervisor().Stop(t.Context(), compute))
	back := make(chan error, 1)
	go func() {
		time.Sleep(2 * attacherPatience)
		back <- r.stack.Restart(context.Background(), compute)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), attacherPatience)
	r.unfinished("detach from a host that is down", r.unpublish(ctx, going, server))
	cancel()
	ctx, cancel = context.WithTimeout(t.Context(), attacherPatience)
	r.unfinished("attach to a host that is down", r.publish(ctx, coming, server, false))
	cancel()
	r.must(<-back)
	start := time.Now()
	r.again("detach", func(ctx context.Context) error { return r.unpublish(ctx, going, server) })
	r.again("attach", func(ctx context.Context) error { return r.publish(ctx, coming, server, false) })
	t.Logf("done %.0f s after the host came back", time.Since(start).Seconds())
	r.is(coming, "in-use/1", 1)
	r.is(going, "available/0", 1)
	r.detach(coming, server)
}

// TestComputeThatHangs: Nova gives up on the attachment after a minute, and when
// the host goes on it makes a ghost of it: Nova lists the volume, and Cinder says
// that it is free.
func TestComputeThatHangs(t *testing.T) {
	const compute = "nova-compute-fake2"
	r := start(t, "cloud.conf")
	server := r.boot("hangs", "az2")
	id := r.create(request("ghost"))
	signal := func(s syscall.Signal) { r.must(r.stack.Supervisor().Signal(context.Background(), compute, s)) }
	signal(syscall.SIGSTOP)
	awake := false
	wake := func() {
		if !awake {
			awake = true
			signal(syscall.SIGCONT)
		}
	}
	t.Cleanup(wake)
	ctx, cancel := context.WithTimeout(t.Context(), attacherPatience)
	r.unfinished("attach to a host that hangs", r.publish(ctx, id, server, false))
	cancel()
	// However late Nova began before the driver stopped asking: after this minute
	// it has given up.
	time.Sleep(65 * time.Second)
	r.becomes(id, "available/0", 1)
	wake()
	for deadline := time.Now().Add(patience); len(r.listed(server)) == 0; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no ghost came of it: this cloud does better than the one that was recorded")
		}
	}
	r.becomes(id, "available/0", 1)
	const remedy = "volume attachment create --connect"
	r.refused(r.publish(t.Context(), id, server, false), codes.FailedPrecondition, remedy)
	r.refused(r.unpublish(t.Context(), id, server), codes.Aborted, remedy)
	// What the driver says is to be done, an operator does.
	got, err := r.member.Volume(t.Context(), "66", http.MethodPost, "/attachments", map[string]any{"attachment": map[string]any{
		"volume_uuid": id, "instance_uuid": r.cloud.Servers[server],
		"connector": map[string]any{"host": "fake2", "ip": "127.0.0.1", "platform": "x86_64", "os_type": "linux2", "mountpoint": "/dev/sdb", "multipath": false},
	}})
	r.must(err)
	var made struct{ Attachment struct{ ID string } }
	r.must(got.Into(&made))
	got, err = r.member.Volume(t.Context(), "66", http.MethodPost, "/attachments/"+made.Attachment.ID+"/action", map[string]any{"os-complete": map[string]any{}})
	r.must(err)
	r.must(got.Into(nil))
	r.again("detach", func(ctx context.Context) error { return r.unpublish(ctx, id, server) })
	if left := r.listed(server); len(left) > 0 {
		t.Errorf("Nova still lists %v", left)
	}
	r.is(id, "available/0", 1)
	r.attach(id, server, false)
	r.detach(id, server)
}
