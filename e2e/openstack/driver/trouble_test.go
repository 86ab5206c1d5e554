package driver

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ask is a request of the administrator to Cinder that has to be granted.
func (r *rig) ask(method, path string, body any) {
	r.Helper()
	got, err := r.admin.Volume(context.Background(), "66", method, path, body)
	if err == nil {
		err = got.Into(nil)
	}
	r.must(err)
}

func (r *rig) quota(lines map[string]int) {
	r.Helper()
	r.ask(http.MethodPut, "/os-quota-sets/"+r.member.ProjectID, map[string]any{"quota_set": lines})
}

// refused checks a code, and that the message says why.
func (r *rig) refused(err error, code codes.Code, says string) {
	r.Helper()
	if status.Code(err) != code || !strings.Contains(strings.ToLower(status.Convert(err).Message()), says) {
		r.Errorf("got %v, want %s about %q", err, code, says)
	}
}

func TestQuotaExceeded(t *testing.T) {
	r := start(t, "cloud.conf")
	id := r.create(request("quota"))
	t.Cleanup(func() { r.quota(map[string]int{"gigabytes": 10000, "volumes": 1000}) })
	r.quota(map[string]int{"gigabytes": 2})
	big := request("quota-big")
	big.CapacityRange.RequiredBytes = 5 * gib
	grow := func(size int64) error { return insist(func() error { return r.expand(t.Context(), id, size) }) }
	r.refused(insist(func() error { return r.createOnce(t.Context(), big) }), codes.ResourceExhausted, "quota")
	r.refused(grow(9*gib), codes.OutOfRange, "quota") // which the resizer takes for final
	r.is(id, "available/0", 1)
	r.quota(map[string]int{"gigabytes": 10000})
	r.must(grow(2 * gib))
}

func TestVolumeThatNothingCanMake(t *testing.T) {
	r := start(t, "cloud.conf")
	req := request("nobackend")
	req.Parameters["type"] = "nobackend"
	err := insist(func() error { return r.createOnce(t.Context(), req) })
	if err == nil || !strings.Contains(err.Error(), "weighted backend") {
		t.Errorf("got %v, want Cinder's own reason", err)
	}
	got, err := r.member.Volume(t.Context(), "66", http.MethodGet, "/volumes/detail?name=nobackend", nil)
	r.must(err)
	var left struct{ Volumes []struct{ ID, Status string } }
	r.must(got.Into(&left))
	for _, v := range left.Volumes {
		t.Logf("left: %s %s", v.ID, v.Status)
		r.remove(v.ID)
	}
}

func TestVolumeInError(t *testing.T) {
	r := start(t, "cloud.conf")
	id := r.create(request("error"))
	r.ask(http.MethodPost, "/volumes/"+id+"/action", map[string]any{"os-reset_status": map[string]any{"status": "error"}})
	if err := r.publish(t.Context(), id, "node1", false); err == nil || !strings.Contains(err.Error(), "error") {
		t.Errorf("a volume in error is attached: %v", err)
	}
	r.must(insist(func() error { return r.deleteOnce(t.Context(), id) }))
	r.is(id, "gone", 0)
}

// TestExtensionThatTheBackEndRefuses is NFS, which cannot extend in use: Cinder
// says yes, and leaves the volume in error_extending.
func TestExtensionThatTheBackEndRefuses(t *testing.T) {
	r := start(t, "cloud.conf")
	req := request("nfs")
	req.Parameters["type"] = "nfs"
	id := r.create(req)
	r.attach(id, "node1", false)
	err := r.expand(t.Context(), id, 2*gib)
	if err == nil || !strings.Contains(err.Error(), "extend") {
		t.Errorf("an extension that fails is no error: %v", err)
	}
	r.is(id, "error_extending/1", 1)
	r.ask(http.MethodPost, "/volumes/"+id+"/action", map[string]any{"os-reset_status": map[string]any{"status": "in-use"}})
	r.detach(id, "node1")
	r.must(insist(func() error { return r.expand(t.Context(), id, 2*gib) }))
	r.is(id, "available/0", 2)
}

// TestServiceStoppedInTheMiddle ends a service, asks for something that needs
// it, and starts it again: what was asked for is done in the end, once.
func TestServiceStoppedInTheMiddle(t *testing.T) {
	for _, name := range []string{"cinder-volume", "cinder-scheduler", "cinder-api", "nova-api", "keystone", "rabbitmq"} {
		t.Run(name, func(t *testing.T) {
			r := start(t, "cloud.conf")
			first := r.create(request("before-" + name))
			r.must(r.stack.Supervisor().Stop(t.Context(), name))
			back := make(chan error, 1)
			go func() {
				time.Sleep(8 * time.Second)
				back <- r.stack.Restart(context.Background(), name)
			}()
			cleared := r.clearForgotten("during-" + name)
			second := r.create(request("during-" + name))
			cleared()
			r.must(<-back)
			r.again("attach", func(ctx context.Context) error { return r.publish(ctx, first, "node1", false) })
			r.again("expand", func(ctx context.Context) error { return r.expand(ctx, second, 2*gib) })
			r.again("detach", func(ctx context.Context) error { return r.unpublish(ctx, first, "node1") })
			got, err := r.member.Volume(t.Context(), "66", http.MethodGet, "/volumes/detail?name=during-"+name, nil)
			r.must(err)
			var listed struct{ Volumes []struct{ ID string } }
			r.must(got.Into(&listed))
			if len(listed.Volumes) != 1 {
				t.Errorf("%d volumes were made, want one", len(listed.Volumes))
			}
		})
	}
}

// clearForgotten does what an operator has to, until the function it returns is
// called: it deletes a volume of that name that is still being created after a
// minute. What Cinder tells its services while RabbitMQ comes back, and they have
// not, is told to nobody; the volume stays so for ever, and the driver, which
// can't know, neither deletes it nor makes another one within an hour.
func (r *rig) clearForgotten(name string) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		since := map[string]time.Time{}
		for {
			select {
			case <-ended:
				return
			case <-time.After(2 * time.Second):
			}
			for _, id := range r.creating(name) {
				if since[id].IsZero() {
					since[id] = time.Now()
				}
				if time.Since(since[id]) > time.Minute {
					r.Logf("Cinder has forgotten volume %s, which is deleted", id)
					_, err := r.admin.Volume(r.Context(), "66", http.MethodPost, "/volumes/"+id+"/action", map[string]any{"os-force_delete": map[string]any{}})
					if err != nil {
						r.Error(err)
					}
					since[id] = time.Now()
				}
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

// creating returns the volumes of that name that are being created; none while
// the cloud can't be asked.
func (r *rig) creating(name string) (ids []string) {
	got, err := r.member.Volume(r.Context(), "66", http.MethodGet, "/volumes/detail?status=creating&name="+name, nil)
	var listed struct{ Volumes []struct{ ID string } }
	if err != nil || got.Into(&listed) != nil {
		return nil
	}
	for _, v := range listed.Volumes {
		ids = append(ids, v.ID)
	}
	return ids
}

// TestTokenExpires revokes every token of the member, as Keystone does when the
// user is disabled for a moment.
func TestTokenExpires(t *testing.T) {
	r := start(t, "cloud.conf")
	id := r.create(request("token"))
	for _, enabled := range []bool{false, true} {
		got, err := r.admin.Do(t.Context(), http.MethodPatch, r.cloud.Identity+"/users/"+r.member.UserID, "", map[string]any{"user": map[string]any{"enabled": enabled}})
		r.must(err)
		r.must(got.Into(nil))
	}
	r.attach(id, "node1", false)
	r.detach(id, "node1")
}

// TestServerDeletedWhileAttached: the volume is free again, and detaching from
// a server that is gone succeeds.
func TestServerDeletedWhileAttached(t *testing.T) {
	r := start(t, "cloud.conf")
	id := r.create(request("gone-server"))
	r.boot("short", "nova")
	r.attach(id, "short", false)
	got, err := r.member.Compute(t.Context(), "60", http.MethodDelete, "/servers/"+r.cloud.Servers["short"], nil)
	r.must(err)
	r.must(got.Into(nil))
	r.again("detach", func(ctx context.Context) error { return r.unpublish(ctx, id, "short") })
	r.again("attach elsewhere", func(ctx context.Context) error { return r.publish(ctx, id, "node1", false) })
	r.detach(id, "node1")
}
