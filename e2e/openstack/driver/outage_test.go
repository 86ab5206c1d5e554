package driver

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// count returns how many things of a kind (volumes, snapshots, backups) have a
// name.
func (r *rig) count(kind, name string) int {
	r.Helper()
	got, err := r.member.Volume(r.Context(), "66", http.MethodGet, "/"+kind+"/detail?name="+name, nil)
	r.must(err)
	var listed map[string][]struct{ Name string }
	r.must(got.Into(&listed))
	return len(listed[kind])
}

// whole is every kind of call of a volume's life, in order, as a sidecar makes
// them.
func (r *rig) whole(name string) []struct {
	name string
	do   func(ctx context.Context) error
} {
	var id, snapshot, backup string
	copied := func(into *string, name string, parameters map[string]string) func(context.Context) error {
		return func(ctx context.Context) error {
			got, err := r.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: id, Parameters: parameters})
			*into = got.GetSnapshot().GetSnapshotId()
			return err
		}
	}
	uncopied := func(from *string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := r.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: *from})
			return err
		}
	}
	return []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"create", func(ctx context.Context) error {
			req := request(name)
			req.Parameters["type"] = "standard"
			got, err := r.CreateVolume(ctx, req)
			id = got.GetVolume().GetVolumeId()
			return err
		}},
		{"attach", func(ctx context.Context) error { return r.publish(ctx, id, "node1", false) }},
		{"extend", func(ctx context.Context) error { return r.expand(ctx, id, 2*gib) }},
		{"snapshot", func(ctx context.Context) error { return copied(&snapshot, name+"-snapshot", nil)(ctx) }},
		{"backup", func(ctx context.Context) error {
			return copied(&backup, name+"-backup", map[string]string{"type": "backup"})(ctx)
		}},
		{"detach", func(ctx context.Context) error { return r.unpublish(ctx, id, "node1") }},
		{"modify", func(ctx context.Context) error {
			_, err := r.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: map[string]string{"type": "fast", "metadata/owner": "me"}})
			return err
		}},
		{"delete snapshot", func(ctx context.Context) error { return uncopied(&snapshot)(ctx) }},
		{"delete backup", func(ctx context.Context) error { return uncopied(&backup)(ctx) }},
		{"delete", func(ctx context.Context) error { return r.deleteOnce(ctx, id) }},
	}
}

// once checks that nothing of a volume's life was made twice.
func (r *rig) once(name string) {
	r.Helper()
	for kind, of := range map[string]string{"volumes": name, "snapshots": name + "-snapshot", "backups": name + "-backup"} {
		if n := r.count(kind, of); n > 1 {
			r.Errorf("%d %s are called %s", n, kind, of)
		}
	}
}

// TestCloudAnswersWithErrorsForAWhile: for some seconds at the start of every
// call each request ends in 503, 502, 504 or a broken connection, some after the
// cloud has done what it was asked for. The call is repeated as sidecars do, and
// in the end it is done, once.
func TestCloudAnswersWithErrorsForAWhile(t *testing.T) {
	const outage = 4 * time.Second
	r := startBehindGateway(t)
	mishaps := []mishap{
		{status: http.StatusServiceUnavailable}, {status: http.StatusBadGateway, after: true}, {cut: true},
		{status: http.StatusGatewayTimeout, after: true}, {cut: true, after: true},
	}
	const name = "outage"
	for _, step := range r.whole(name) {
		until := sync.OnceValue(func() time.Time { return time.Now().Add(outage) }) // from the first request on
		var failed atomic.Int64
		r.gateway.failing(func(req *http.Request) mishap {
			if kind(req) == theTokens || time.Now().After(until()) {
				return mishap{}
			}
			return mishaps[int(failed.Add(1))%len(mishaps)]
		})
		start := time.Now()
		r.again(step.name, step.do)
		t.Logf("%-16s done after %4.1f s, %d requests failed", step.name, time.Since(start).Seconds(), failed.Load())
		if failed.Load() == 0 {
			t.Errorf("%s: no request failed", step.name)
		}
		r.once(name)
	}
	r.gateway.failing(nil)
	if n := r.count("volumes", name); n != 0 {
		t.Errorf("%d volumes are left", n)
	}
}

// TestAnswersThatAreLost loses the answer to each kind of change, once, after
// the cloud has made it.
func TestAnswersThatAreLost(t *testing.T) {
	r := startBehindGateway(t)
	change := map[string]string{
		"create": "POST /volumes", "attach": "POST /servers/ID/os-volume_attachments", "extend": "POST /volumes/ID/action",
		"snapshot": "POST /snapshots", "backup": "POST /backups", "detach": "DELETE /servers/ID/os-volume_attachments/ID",
		"modify": "POST /volumes/ID/action", "delete snapshot": "DELETE /snapshots/ID", "delete backup": "DELETE /backups/ID", "delete": "DELETE /volumes/ID",
	}
	for i, lost := range []mishap{{status: http.StatusGatewayTimeout, after: true}, {cut: true, after: true}} {
		name := fmt.Sprintf("lost-%d", i)
		for _, step := range r.whole(name) {
			happened := r.gateway.once(change[step.name], lost)
			r.again(step.name, step.do)
			if !happened() {
				t.Errorf("%s: no answer to %s was lost", step.name, change[step.name])
			}
			r.once(name)
		}
		if n := r.count("volumes", name); n != 0 {
			t.Errorf("%d volumes are left", n)
		}
	}
}
