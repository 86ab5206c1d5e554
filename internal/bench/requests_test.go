package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/bench/report"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// BenchmarkRequests prints how many requests each operation costs.
func BenchmarkRequests(b *testing.B) {
	t := &report.Table{Columns: "operation\tbudget, requests\tmeasured\tpolls\t"}
	perOperation(b, t)
	listing(b, t)
	idling(b, t)
	many(b, t)
	polling(b, t)
	t.Print(b)
}

// operation is one row: prepare makes what the call needs, which is not
// counted, and returns the call.
type operation struct {
	name   string
	budget int64
	// waits tells that the call waits for the cloud, so that its reads are the
	// shared polls. Otherwise all requests count.
	waits   bool
	prepare func(s *stack, name string) func() error
}

func operations() []operation {
	ctx := context.Background()
	volume := func(s *stack, name string) string {
		id, err := s.create(ctx, name, nil)
		s.must(err)
		return id
	}
	attached := func(s *stack, name string) string {
		id := volume(s, name)
		s.must(s.publish(ctx, id, s.servers[0]))
		return id
	}
	return []operation{
		{"CreateVolume, empty", 2, true, func(s *stack, name string) func() error {
			return func() error { _, err := s.create(ctx, name, nil); return err }
		}},
		{"CreateVolume from snapshot", 2, true, func(s *stack, name string) func() error {
			id, err := s.snapshot(ctx, name, volume(s, name+" source"))
			s.must(err)
			from := &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
			return func() error { _, err := s.create(ctx, name, from); return err }
		}},
		{"CreateVolume from volume", 2, true, func(s *stack, name string) func() error {
			from := &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: volume(s, name+" source")}}}
			return func() error { _, err := s.create(ctx, name, from); return err }
		}},
		// One more than later ones: that the volume was published is put on record.
		{"ControllerPublishVolume, first", 2, true, func(s *stack, name string) func() error {
			id := volume(s, name)
			return func() error { return s.publish(ctx, id, s.servers[0]) }
		}},
		{"ControllerPublishVolume, later", 1, true, func(s *stack, name string) func() error {
			id := attached(s, name)
			s.must(s.unpublish(ctx, id, s.servers[0]))
			return func() error { return s.publish(ctx, id, s.servers[0]) }
		}},
		{"ControllerPublishVolume, already attached", 2, false, func(s *stack, name string) func() error {
			id := attached(s, name)
			return func() error { return s.publish(ctx, id, s.servers[0]) }
		}},
		{"ControllerUnpublishVolume", 1, true, func(s *stack, name string) func() error {
			id := attached(s, name)
			return func() error { return s.unpublish(ctx, id, s.servers[0]) }
		}},
		{"DeleteVolume", 1, true, func(s *stack, name string) func() error {
			id := volume(s, name)
			return func() error { return s.remove(ctx, id) }
		}},
		{"ControllerExpandVolume", 2, true, func(s *stack, name string) func() error {
			id := attached(s, name)
			return func() error { return s.expand(ctx, id) }
		}},
		{"CreateSnapshot", 2, true, func(s *stack, name string) func() error {
			id := volume(s, name)
			return func() error { _, err := s.snapshot(ctx, name, id); return err }
		}},
		{"whole life: create, attach, detach, delete", 6, true, func(s *stack, name string) func() error {
			return func() error { _, err := s.live(name, s.servers[0], false, &lags{}); return err }
		}},
	}
}

// perOperation measures the operations one at a time; the worst of three counts.
func perOperation(b *testing.B, t *report.Table) {
	b.Helper()
	s := newStack(b, devcloud.Realistic(), 1)
	for i, op := range operations() {
		var worst, polls int64
		for n := range 3 {
			call := op.prepare(s, fmt.Sprintf("op-%d-%d", i, n))
			s.must(s.admin.ResetRequests(s.Context()))
			s.must(call())
			spent := s.requests()
			asked := int64(0)
			if op.waits {
				asked = pollsIn(spent)
			}
			worst, polls = max(worst, spent.Total-asked), max(polls, asked)
		}
		budget := fmt.Sprint(op.budget)
		if op.waits {
			budget += " + polls"
		}
		t.Add(worst <= op.budget, "%s\t%s\t%d\t%d", op.name, budget, worst, polls)
	}
}

// listing reads a list of more than one page.
func listing(b *testing.B, t *report.Table) {
	b.Helper()
	const volumes = 2500
	s := newStack(b, devcloud.Instant(), 1)
	s.seed(volumes, devcloud.Instant())
	s.must(s.admin.ResetRequests(s.Context()))
	listed := s.listAll()
	spent, want := s.requests().Total, int64((volumes+999)/1000)
	t.Add(spent <= want && listed == volumes, "ListVolumes of %d volumes\t%d\t%d\t0", listed, want, spent)
}

// idling looks for requests while nothing is asked of the driver.
func idling(b *testing.B, t *report.Table) {
	b.Helper()
	const pause = 5 * time.Second
	s := newStack(b, devcloud.Fast(), 1)
	id, err := s.create(s.Context(), "idle", nil)
	s.must(err)
	s.must(s.publish(s.Context(), id, s.servers[0]))
	s.must(s.admin.ResetRequests(s.Context()))
	time.Sleep(pause)
	spent := s.requests().Total
	t.Add(spent == 0, "idle for %v, a volume attached\t0\t%d\t0", pause, spent)
}

// many measures whole lives side by side.
func many(b *testing.B, t *report.Table) {
	b.Helper()
	for _, row := range []struct {
		name    string
		servers int
		load    load
		budget  int64
	}{
		{"40 volumes, 20 at a time, 4 servers, with expand", 4, load{volumes: 40, atOnce: 20, expand: true}, 340},
		{"1,000 volumes, 100 at a time, 50 servers", 50, load{volumes: 1000, atOnce: 100}, 7500},
	} {
		o := newStack(b, devcloud.Realistic(), row.servers).run(row.load)
		t.Add(o.requests.Total <= row.budget, "%s, %s\tat most %d in all\t%d\t%d of them", row.name, o.took.Round(time.Second), row.budget, o.requests.Total, pollsIn(o.requests))
	}
}

// polling measures how often the cloud is asked, in the mean over the run.
func polling(b *testing.B, t *report.Table) {
	b.Helper()
	const servers = 20
	for _, atOnce := range []int{20, 200} {
		o := newStack(b, devcloud.Realistic(), servers).run(load{volumes: 3 * atOnce, atOnce: atOnce, expand: true})
		polls := float64(pollsIn(o.requests)) / o.took.Seconds()
		t.Add(polls <= 1+servers, "polls a second, %d in flight on %d servers\tat most %d\t\t%.1f", atOnce, servers, 1+servers, polls)
	}
}
