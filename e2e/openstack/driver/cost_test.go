package driver

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// operation is one row of the table of costs: prepare makes what the call
// needs, which is not counted, and returns the call.
type operation struct {
	name   string
	budget int
	// waits is how often the call waits for the cloud: what only waiting asks is
	// counted apart then. Where it does not wait, all requests count.
	waits   int
	prepare func(r *rig, name string) func(ctx context.Context) error
}

func operations() []operation {
	made := func(r *rig, name string) string { return r.create(request(name)) }
	attached := func(r *rig, name string) string {
		id := made(r, name)
		r.attach(id, "node1", false)
		return id
	}
	return []operation{
		{"CreateVolume, empty", 2, 1, func(r *rig, name string) func(context.Context) error {
			return func(ctx context.Context) error { return r.createOnce(ctx, request(name)) }
		}},
		{"CreateVolume from snapshot", 2, 1, func(r *rig, name string) func(context.Context) error {
			req := request(name)
			req.VolumeContentSource = fromSnapshot(r.snapshot(name, made(r, name+"-source"), nil))
			return func(ctx context.Context) error { return r.createOnce(ctx, req) }
		}},
		{"CreateVolume from volume", 2, 1, func(r *rig, name string) func(context.Context) error {
			req := request(name)
			req.VolumeContentSource = fromVolume(made(r, name+"-source"))
			return func(ctx context.Context) error { return r.createOnce(ctx, req) }
		}},
		// One more than later ones: that the volume was published is put on record.
		{"ControllerPublishVolume, first", 2, 1, func(r *rig, name string) func(context.Context) error {
			id := made(r, name)
			return func(ctx context.Context) error { return r.publish(ctx, id, "node1", false) }
		}},
		{"ControllerPublishVolume, later", 1, 1, func(r *rig, name string) func(context.Context) error {
			id := attached(r, name)
			r.must(insist(func() error { return r.unpublish(r.Context(), id, "node1") }))
			return func(ctx context.Context) error { return r.publish(ctx, id, "node1", false) }
		}},
		{"ControllerPublishVolume, already attached", 2, 0, func(r *rig, name string) func(context.Context) error {
			id := attached(r, name)
			return func(ctx context.Context) error { return r.publish(ctx, id, "node1", false) }
		}},
		{"ControllerExpandVolume", 2, 1, func(r *rig, name string) func(context.Context) error {
			id := attached(r, name)
			return func(ctx context.Context) error { return r.expand(ctx, id, 2*gib) }
		}},
		{"CreateSnapshot", 2, 1, func(r *rig, name string) func(context.Context) error {
			id := made(r, name)
			return func(context.Context) error { r.snapshot(name, id, nil); return nil }
		}},
		{"ControllerUnpublishVolume", 1, 1, func(r *rig, name string) func(context.Context) error {
			id := attached(r, name)
			return func(ctx context.Context) error { return r.unpublish(ctx, id, "node1") }
		}},
		{"DeleteVolume", 1, 1, func(r *rig, name string) func(context.Context) error {
			id := made(r, name)
			return func(ctx context.Context) error { return r.deleteOnce(ctx, id) }
		}},
		{"create, attach, detach, delete", 6, 4, func(r *rig, name string) func(context.Context) error {
			return func(ctx context.Context) error { return r.life(ctx, name, "node1", false) }
		}},
		{"ListVolumes", 1, 0, func(r *rig, name string) func(context.Context) error {
			made(r, name)
			return func(ctx context.Context) error { _, err := r.ListVolumes(ctx, &csi.ListVolumesRequest{}); return err }
		}},
		{"ten seconds of nothing, a volume attached", 0, 0, func(r *rig, name string) func(context.Context) error {
			attached(r, name)
			return func(context.Context) error { time.Sleep(10 * time.Second); return nil }
		}},
	}
}

// pollsAllowed is how often may be asked while an operation that takes this long
// is waited for: a few times when an answer is likely, and then after pauses that
// grow with the root of the time waited.
func pollsAllowed(waits int, took time.Duration) int {
	return 3*waits + int(13*math.Sqrt(took.Seconds()))
}

// TestRequests holds each operation to its budget, in HTTP requests that pass a
// gateway: changes and needed reads to the number that it has, the reads that
// wait to a rate. The worst of three counts; one that the driver wants to be
// asked again for is not over, and another one is counted in its place.
func TestRequests(t *testing.T) {
	r := startBehindGateway(t)
	// The services tell their versions once in the driver's life.
	r.create(request("cost-first"))
	t.Logf("| %-42s %6s %8s %6s %5s %8s %7s", "operation", "budget", "requests", "polls", "most", "logins", "s")
	for i, op := range operations() {
		repeats := 3
		if op.waits == 0 {
			repeats = 1
		}
		var worst, polls, most, logins int
		var longest time.Duration
		for n, unfinished := 0, 0; n < repeats+unfinished; n++ {
			call := op.prepare(r, fmt.Sprintf("cost-%d-%d", i, n))
			before, start := r.gateway.requests(), time.Now()
			err := call(t.Context())
			if unfinished < 3 && askAgain(err) {
				unfinished++
				t.Logf("%s: not counted: %v", op.name, err)
				r.again(op.name, call)
				continue
			}
			r.must(err)
			took, after := time.Since(start), r.gateway.requests()
			changes, reads, asked := spent(before, after)
			if op.waits == 0 {
				reads, asked = reads+asked, 0
			}
			if changes+reads > op.budget || op.waits > 0 && asked > pollsAllowed(op.waits, took) {
				t.Errorf("%s took %.1f s and %d requests beside %d polls, budget %d and %d: %v", op.name, took.Seconds(), changes+reads, asked, op.budget, pollsAllowed(op.waits, took), difference(before, after))
			}
			worst, logins, longest = max(worst, changes+reads), max(logins, after[theTokens]-before[theTokens]), max(longest, took)
			if asked >= polls {
				polls, most = asked, pollsAllowed(op.waits, took)
			}
		}
		allowed := "-"
		if op.waits > 0 {
			allowed = fmt.Sprint(most)
		}
		t.Logf("| %-42s %6d %8d %6d %5s %8d %7.1f", op.name, op.budget, worst, polls, allowed, logins, longest.Seconds())
	}
}

// difference are the requests between two readings, by kind.
func difference(before, after map[string]int) map[string]int {
	spent := map[string]int{}
	for kind, n := range after {
		if n > before[kind] {
			spent[kind] = n - before[kind]
		}
	}
	return spent
}

// TestRequestsOfMany is the load of the budgets: forty volumes, twenty at a
// time, on four servers.
func TestRequestsOfMany(t *testing.T) {
	const volumes, atOnce, budget = 40, 20, 340
	r := startBehindGateway(t)
	servers := []string{"node1", "node2", r.boot("cost1", "nova"), r.boot("cost2", "nova")}
	before, start := r.gateway.requests(), time.Now()
	errs := make([]error, volumes)
	slots := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	for i := range volumes {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = r.life(context.Background(), fmt.Sprintf("many-%d", i), servers[i%len(servers)], true)
		})
	}
	wait.Wait()
	took, after := time.Since(start), r.gateway.requests()
	for _, err := range errs {
		r.must(err)
	}
	changes, reads, polls := spent(before, after)
	// One list a second for the cloud and one for each server.
	rate := float64(1 + len(servers))
	// The budget is for a cloud that needs twenty seconds, as the development cloud
	// does. One that needs longer is asked for longer.
	most := budget + int(max(0, took-20*time.Second).Seconds()*rate)
	t.Logf("| %d volumes, %d at a time, 4 servers, %.0f s: at most %d requests in all, made %d, of them %d polls (%.1f per second, at most %.0f)",
		volumes, atOnce, took.Seconds(), most, changes+reads+polls, polls, float64(polls)/took.Seconds(), rate)
	if got := changes + reads + polls; got > most {
		t.Errorf("%d requests, the budget is %d: %v", got, most, difference(before, after))
	}
	// Creation two, the first attachment two, extension two, detachment one, deletion one.
	if got, most := changes+reads, 8*volumes; got > most {
		t.Errorf("%d requests beside the polls, the budget is %d: %v", got, most, difference(before, after))
	}
	if got := float64(polls) / took.Seconds(); got > rate {
		t.Errorf("%.1f polls a second, the budget is %.0f", got, rate)
	}
}

// createOnce makes a volume with one call, and sees to its end.
func (r *rig) createOnce(ctx context.Context, req *csi.CreateVolumeRequest) error {
	got, err := r.CreateVolume(ctx, req)
	if err == nil {
		r.Cleanup(func() { r.remove(got.GetVolume().GetVolumeId()) })
	}
	return err
}

// deleteOnce deletes a volume with one call.
func (r *rig) deleteOnce(ctx context.Context, id string) error {
	_, err := r.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
	return err
}

// life takes a volume from birth to deletion, each step in one call, which is
// repeated only if the driver asks for that.
func (r *rig) life(ctx context.Context, name, server string, grow bool) error {
	var id string
	steps := []func() error{
		func() error {
			got, err := r.CreateVolume(ctx, request(name))
			id = got.GetVolume().GetVolumeId()
			return err
		},
		func() error { return r.publish(ctx, id, server, false) },
		func() error { return r.expand(ctx, id, 2*gib) },
		func() error { return r.unpublish(ctx, id, server) },
		func() error { return r.deleteOnce(ctx, id) },
	}
	if !grow {
		steps = slices.Delete(steps, 2, 3)
	}
	for _, step := range steps {
		if err := insist(step); err != nil {
			if id != "" {
				r.Cleanup(func() { r.remove(id) })
			}
			return fmt.Errorf("volume %s: %w", name, err)
		}
	}
	return nil
}

// insist makes a call, and again where the driver asks for that.
func insist(call func() error) error {
	err := call()
	for deadline := time.Now().Add(patience); askAgain(err) && time.Now().Before(deadline); err = call() {
		time.Sleep(time.Second)
	}
	return err
}

// askAgain reports whether an answer says that the driver is to be asked again.
func askAgain(err error) bool {
	return status.Code(err) == codes.Aborted || status.Code(err) == codes.Unavailable
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}
