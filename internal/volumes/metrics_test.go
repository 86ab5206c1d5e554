package volumes_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

// scrape returns the series of a metric: the values by their labels, as in "cloud=a
// status=b". That of a histogram is how many observations it has.
func scrape(t *testing.T, registry *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]float64)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, one := range family.GetMetric() {
			var labels []string
			for _, l := range one.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			value := one.GetGauge().GetValue() + one.GetCounter().GetValue() + float64(one.GetHistogram().GetSampleCount())
			found[strings.Join(labels, " ")] = value
		}
	}
	return found
}

// allSeries returns how many series each metric has that bears a cloud's name.
func allSeries(t *testing.T, registry *prometheus.Registry, cloudName string) map[string]int {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int)
	for _, family := range families {
		for _, one := range family.GetMetric() {
			for _, l := range one.GetLabel() {
				if l.GetName() == "cloud" && l.GetValue() == cloudName {
					found[family.GetName()]++
				}
			}
		}
	}
	return found
}

func want(t *testing.T, what string, got, want map[string]float64) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// ids returns the ids of a list, in order.
func ids(list volumes.Listing) []string {
	var all []string
	for _, one := range list.Own {
		all = append(all, one.ID)
	}
	slices.Sort(all)
	return all
}

// Lists are remembered when they were complete, whoever asked for them and however many
// pages they have, also where two are read at a time.
func TestCompleteListsAreRememberedAsTheyPassBy(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := overHTTP(t, volumes.Options{Cloud: "a", Metrics: volumes.NewMetrics(registry)})
	var own []string
	for _, name := range []string{"pvc-1", "pvc-2", "pvc-3"} {
		own = append(own, r.create(volumes.CreateRequest{Name: name}).ID)
	}
	slices.Sort(own)
	stranger := volumes.New(connect(t, r.cloud.CloudConf()), volumes.Options{Cluster: "another"})
	if _, err := stranger.Create(r.within(time.Minute), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1}); err != nil {
		t.Fatal(err)
	}
	server := r.dump().Servers[0].ID
	if _, err := r.Attach(r.within(time.Minute), own[0], server); err != nil {
		t.Fatal(err)
	}
	page := func(limit int, marker string) string {
		_, next, err := r.List(r.within(time.Minute), cloud.Page{Stable: true, Limit: limit, Marker: marker})
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	begun := time.Now()
	first := page(3, "")
	if at := r.LastLists().Volumes.At; at.After(begun) {
		t.Error("half of a list counts")
	}
	second := page(2, "")
	if page(3, second) != "" || page(3, first) != "" {
		t.Fatal("there are more pages")
	}
	last := r.LastLists().Volumes
	if !last.At.After(begun) || !slices.Equal(ids(last), own) || last.Cut {
		t.Errorf("%+v", last)
	}
	for _, v := range last.Own {
		attached := v.ID == own[0]
		if v.CreatedAt.IsZero() || v.Name == "" || attached != (v.Status == "in-use") || attached != slices.Equal(v.Servers, []string{server}) {
			t.Errorf("%+v", v)
		}
	}
	want(t, "volumes", scrape(t, registry, "cinder_csi_volumes"), map[string]float64{"cloud=a status=available": 3, "cloud=a status=in-use": 1})

	page(1, first) // its beginning was taken
	if got := r.LastLists().Volumes; got.At != last.At {
		t.Error("the end of a list counts")
	}
	if err := r.Delete(r.within(time.Minute), own[1]); err != nil {
		t.Fatal(err)
	}
	page(0, "")
	if got := ids(r.LastLists().Volumes); !slices.Equal(got, []string{own[0], own[2]}) {
		t.Errorf("%v", got)
	}
	want(t, "volumes", scrape(t, registry, "cinder_csi_volumes"), map[string]float64{"cloud=a status=available": 2, "cloud=a status=in-use": 1})
}

func TestSnapshotsAndBackupsAreRememberedAsTheyPassBy(t *testing.T) {
	r := overHTTP(t, volumes.Options{})
	v := r.create(volumes.CreateRequest{Name: "pvc-1"})
	s, err := r.CreateSnapshot(r.within(time.Minute), volumes.SnapshotRequest{Name: "snap", VolumeID: v.ID})
	if err != nil {
		t.Fatal(err)
	}
	b := r.backup(volumes.SnapshotRequest{Name: "backup", VolumeID: v.ID})
	if got := r.LastLists(); !got.Snapshots.At.IsZero() || !got.Backups.At.IsZero() {
		t.Errorf("lists of one name count for all: %+v", got)
	}
	if _, _, err := r.ListSnapshots(r.within(time.Minute), v.ID, cloud.Page{}); err != nil {
		t.Fatal(err)
	}
	if got := r.LastLists(); !got.Snapshots.At.IsZero() {
		t.Errorf("lists of one volume count for all: %+v", got)
	}
	if _, _, err := r.ListSnapshots(r.within(time.Minute), "", cloud.Page{}); err != nil {
		t.Fatal(err)
	}
	got := r.LastLists()
	for kind, one := range map[string]struct {
		volumes.Listing
		id string
	}{"snapshots": {got.Snapshots, s.ID}, "backups": {got.Backups, b.ID}} {
		if one.At.IsZero() || len(one.Own) != 1 || one.Own[0].ID != one.id || one.Own[0].VolumeID != v.ID || one.Own[0].Status != "available" || one.Own[0].Temporary {
			t.Errorf("%s: %+v", kind, one)
		}
	}
}

// The counts of operations are those of what was asked for, by how it ended.
func TestOperationsOfTheCloudAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := overHTTP(t, volumes.Options{Cloud: "a", Metrics: volumes.NewMetrics(registry)})
	server := r.dump().Servers[0].ID
	r.faults(
		admin.Fault{Operation: "volume.create", Resource: "broken", EndIn: "error", Times: 1},
		admin.Fault{Operation: "volume.extend", EndIn: "error_extending", Times: 1, Skip: 1},
	)
	v := r.create(volumes.CreateRequest{Name: "pvc-1"})
	if _, err := r.Create(r.within(time.Minute), volumes.CreateRequest{Name: "broken", SizeGiB: 1}); err == nil {
		t.Fatal("created")
	}
	for range 2 { // the second finds it done
		if _, err := r.Attach(r.within(time.Minute), v.ID, server); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Detach(r.within(time.Minute), v.ID, server); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Extend(r.within(time.Minute), v.ID, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Extend(r.within(time.Minute), v.ID, 3); !errors.Is(err, volumes.ErrState) {
		t.Fatal(err)
	}
	spare := r.create(volumes.CreateRequest{Name: "pvc-2"})
	s, err := r.CreateSnapshot(r.within(time.Minute), volumes.SnapshotRequest{Name: "snap", VolumeID: spare.ID})
	if err != nil {
		t.Fatal(err)
	}
	b := r.backup(volumes.SnapshotRequest{Name: "backup", VolumeID: spare.ID})
	for _, id := range []string{s.ID, b.ID} {
		if err := r.DeleteSnapshot(r.within(time.Minute), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Delete(r.within(time.Minute), spare.ID); err != nil {
		t.Fatal(err)
	}
	ended := map[string]float64{}
	for operation, n := range map[string]float64{
		"volume_create result=ok": 2, "volume_create result=failed": 1, "volume_attach result=ok": 1, "volume_detach result=ok": 1,
		"volume_extend result=ok": 1, "volume_extend result=failed": 1, "volume_delete result=ok": 2, // with the broken one
		"snapshot_create result=ok": 2, "snapshot_delete result=ok": 2, // one for the backup
		"backup_create result=ok": 1, "backup_delete result=ok": 1,
	} {
		ended["cloud=a operation="+operation] = n
	}
	want(t, "operations", scrape(t, registry, "cinder_csi_cloud_operation_duration_seconds"), ended)
	want(t, "waiters", scrape(t, registry, "cinder_csi_watch_waiters"), map[string]float64{"cloud=a": 0})
	want(t, "stuck", scrape(t, registry, "cinder_csi_stuck_operation_seconds"), map[string]float64{})
	if polls := scrape(t, registry, "cinder_csi_watch_polls_total")["cloud=a"]; polls < 9 {
		t.Errorf("%v polls", polls)
	}
	if waits := scrape(t, registry, "cinder_csi_lock_wait_seconds")["cloud=a"]; waits < 12 {
		t.Errorf("%v turns", waits)
	}
	lags := scrape(t, registry, "cinder_csi_detection_lag_seconds")
	for operation, n := range lags {
		if n > ended[operation+" result=ok"] {
			t.Errorf("%s: %v lags", operation, n)
		}
	}
	r.Close()
	if left := allSeries(t, registry, "a"); len(left) > 0 {
		t.Errorf("after the end: %v", left)
	}
}

// A detachment that is stuck is told also while an attachment to another server has the
// volume's turn, and waits for it: repeated calls don't get that turn.
func TestADetachmentThatOthersWaitForIsStuck(t *testing.T) {
	in(t, func(w *world) {
		registry := prometheus.NewRegistry()
		w.service = volumes.New(w.cloud, volumes.Options{Cluster: cluster, Cloud: "a", Metrics: volumes.NewMetrics(registry)})
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.attach(v.ID, w.server)
		w.cloud.Latency.Detach = time.Hour
		if err := w.service.Detach(w.within(time.Minute), v.ID, w.server); err == nil {
			t.Fatal("it is detached")
		}
		other := w.cloud.AddServer()
		attaching := w.within(20 * time.Minute)
		var group sync.WaitGroup
		group.Go(func() { _, _ = w.service.Attach(attaching, v.ID, other) })
		for range 4 {
			time.Sleep(2 * time.Minute)
			if err := w.service.Detach(w.within(time.Minute), v.ID, w.server); !errors.Is(err, volumes.ErrBusy) {
				t.Fatalf("the attachment doesn't have the turn: %v", err)
			}
		}
		series := fmt.Sprintf("cloud=a node_id=%s operation=volume_detach state=detaching volume_id=%s", w.server, v.ID)
		if stuck := scrape(t, registry, "cinder_csi_stuck_operation_seconds"); stuck[series] < 8*60 {
			t.Errorf("stuck: %v", stuck)
		}
		group.Wait()
	})
}

// Of 150 operations that are stuck the 100 oldest are told, and none once they are over.
func TestStuckOperationsAreTold(t *testing.T) {
	const n = 150
	registry := prometheus.NewRegistry()
	r := overHTTP(t, volumes.Options{Cloud: "a", Metrics: volumes.NewMetrics(registry), StuckAfter: time.Nanosecond})
	all := make([]string, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			v, err := r.Create(r.within(5*time.Minute), volumes.CreateRequest{Name: fmt.Sprint("pvc-", i), SizeGiB: 1})
			if err != nil {
				t.Error(err)
				return
			}
			all[i] = v.ID
		})
	}
	if group.Wait(); t.Failed() {
		return
	}
	r.faults(admin.Fault{Operation: "volume.delete", Stuck: true})
	for i, id := range all {
		group.Go(func() {
			if err := r.Delete(r.within(5*time.Minute), id); err != nil {
				t.Error(err)
			}
		})
		if i == 99 {
			r.until(func(d admin.Dump) bool { return deleting(d) == 100 })
		}
	}
	r.until(func(d admin.Dump) bool { return deleting(d) == n })
	known := make(map[string]float64)
	for len(known) < mostTold {
		known = scrape(t, registry, "cinder_csi_stuck_operation_seconds")
		maps.DeleteFunc(known, func(labels string, _ float64) bool { return !strings.Contains(labels, "state=deleting") })
	}
	if got := scrape(t, registry, "cinder_csi_watch_waiters")["cloud=a"]; got != n {
		t.Errorf("%v wait", got)
	}
	if len(known) != mostTold {
		t.Errorf("%d are told", len(known))
	}
	for _, id := range all[:mostTold] {
		labels := "cloud=a node_id= operation=volume_delete state=deleting volume_id=" + id
		if known[labels] <= 0 {
			t.Fatalf("%s is none of the oldest: %v", id, known)
		}
	}
	r.faults()
	group.Wait()
	want(t, "stuck", scrape(t, registry, "cinder_csi_stuck_operation_seconds"), map[string]float64{})
	want(t, "waiters", scrape(t, registry, "cinder_csi_watch_waiters"), map[string]float64{"cloud=a": 0})
}

// mostTold is how many stuck operations are told.
const mostTold = 100

func deleting(d admin.Dump) (n int) {
	for _, v := range d.Volumes {
		if v.Status == "deleting" {
			n++
		}
	}
	return n
}

// An operation that takes longer than any call is one operation, that began with the first
// call and ends with the last.
func TestAnOperationThatIsRepeatedIsOne(t *testing.T) {
	in(t, func(w *world) {
		registry := prometheus.NewRegistry()
		w.service = volumes.New(w.cloud, volumes.Options{Cluster: cluster, Cloud: "a", Metrics: volumes.NewMetrics(registry)})
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.attach(v.ID, w.server)
		w.cloud.Latency.Detach = 22 * time.Minute
		series := fmt.Sprintf("cloud=a node_id=%s operation=volume_detach state=detaching volume_id=%s", w.server, v.ID)
		begun, calls := time.Now(), 0
		for ; ; calls++ {
			err := w.service.Detach(w.within(4*time.Minute), v.ID, w.server)
			stuck := scrape(t, registry, "cinder_csi_stuck_operation_seconds")
			if err == nil {
				want(t, "stuck at the end", stuck, map[string]float64{})
				break
			}
			since := time.Since(begun)
			told := map[string]float64{}
			if since > 5*time.Minute {
				told[series] = since.Seconds()
			}
			want(t, fmt.Sprint("stuck after ", since), stuck, told)
			time.Sleep(4 * time.Minute) // the caller's pause
			if calls > 10 {
				t.Fatal(err)
			}
		}
		if calls < 2 {
			t.Fatalf("done in %d calls", calls+1)
		}
		want(t, "ended", scrape(t, registry, "cinder_csi_cloud_operation_duration_seconds"),
			map[string]float64{"cloud=a operation=volume_create result=ok": 1, "cloud=a operation=volume_attach result=ok": 1, "cloud=a operation=volume_detach result=ok": 1})
		if took := sum(t, registry, "cinder_csi_cloud_operation_duration_seconds", "volume_detach"); took < 22*60 || took > 27*60 {
			t.Errorf("it took %v s", took)
		}
	})
}

// sum returns the sum of what a histogram has observed of an operation.
func sum(t *testing.T, registry *prometheus.Registry, name, operation string) (seconds float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, one := range family.GetMetric() {
			for _, l := range one.GetLabel() {
				if family.GetName() == name && l.GetValue() == operation {
					seconds += one.GetHistogram().GetSampleSum()
				}
			}
		}
	}
	return seconds
}

// What nobody asks for any more is forgotten, also where another operation has taken its
// place.
func TestAnOperationThatNobodyRepeatsIsForgotten(t *testing.T) {
	for how, instead := range map[string]func(w *world, id string) error{
		"nobody asks": func(*world, string) error { time.Sleep(10*time.Minute + time.Second); return nil },
		"it is undone": func(w *world, id string) error {
			_, err := w.service.Attach(w.within(time.Hour), id, w.server)
			return err
		},
		"it is deleted": func(w *world, id string) error {
			w.cloud.Set(id, func(v *cloud.Volume) { v.Status, v.Attachments = cloud.VolumeAvailable, nil })
			return w.service.Delete(w.within(time.Hour), id)
		},
	} {
		t.Run(how, func(t *testing.T) {
			in(t, func(w *world) {
				registry := prometheus.NewRegistry()
				w.service = volumes.New(w.cloud, volumes.Options{Cluster: cluster, Cloud: "a", Metrics: volumes.NewMetrics(registry)})
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				w.attach(v.ID, w.server)
				w.cloud.Latency.Detach = 8 * time.Minute
				for range 2 {
					if err := w.service.Detach(w.within(3*time.Minute), v.ID, w.server); err == nil {
						t.Fatal("detached")
					}
					time.Sleep(time.Minute)
				}
				if stuck := scrape(t, registry, "cinder_csi_stuck_operation_seconds"); len(stuck) != 1 {
					t.Fatalf("%v", stuck)
				}
				if err := instead(w, v.ID); err != nil {
					t.Fatal(err)
				}
				want(t, "stuck", scrape(t, registry, "cinder_csi_stuck_operation_seconds"), map[string]float64{})
			})
		})
	}
}

// The series of a cloud end with its last service, and those of others stay.
func TestSeriesEndWithTheLastServiceOfACloud(t *testing.T) {
	registry := prometheus.NewRegistry()
	metrics := volumes.NewMetrics(registry)
	open := func(name string) *volumes.Service {
		s := volumes.New(cloudtest.New(), volumes.Options{Cluster: cluster, Cloud: name, Metrics: metrics, StuckAfter: time.Nanosecond})
		v, err := s.Create(t.Context(), volumes.CreateRequest{Name: "pvc", SizeGiB: 1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Attach(ctx, v.ID, v.ID); err == nil {
			t.Fatal("attached")
		}
		if _, _, err := s.List(t.Context(), cloud.Page{}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two, other := open("secret:1"), open("secret:1"), open("secret:2")
	before := allSeries(t, registry, "secret:1")
	one.Close()
	if got := allSeries(t, registry, "secret:1"); len(got) != len(before) || len(got) < 5 {
		t.Errorf("%v, before %v", got, before)
	}
	two.Close()
	if got := allSeries(t, registry, "secret:1"); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	if got := allSeries(t, registry, "secret:2"); len(got) != len(before) {
		t.Errorf("of the other: %v", got)
	}
	other.Close()
}
