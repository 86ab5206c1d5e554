package inspect_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/inspect"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

const day = 24 * time.Hour

// orphans looks a day and an hour from now.
func (w *world) orphans() *inspect.Orphans {
	w.Helper()
	o, err := inspect.LookForOrphans(w.Context(), w.from, cluster, day, time.Now().Add(day+time.Hour))
	w.must(err)
	return o
}

// told are the orphans as kind and id.
func told(o *inspect.Orphans) []string {
	found := []string{}
	for _, one := range o.Orphans {
		id := one.ID
		if one.Kind == inspect.OrphanAttachment {
			id = one.VolumeID
		}
		found = append(found, one.Kind+" "+id)
	}
	slices.Sort(found)
	return found
}

func (w *world) wantOrphans(want ...string) *inspect.Orphans {
	w.Helper()
	o := w.orphans()
	slices.Sort(want)
	if got := told(o); !slices.Equal(got, want) && len(got)+len(want) > 0 {
		w.Errorf("orphans %q, want %q", got, want)
	}
	return o
}

// tagged makes a volume with metadata.
func (w *world) tagged(name string, metadata map[string]string) string {
	w.Helper()
	v, err := w.CreateVolume(w.Context(), cloud.VolumeRequest{Name: name, SizeGiB: 1, Metadata: metadata})
	w.must(err)
	w.until(v.ID, cloud.VolumeAvailable)
	return v.ID
}

func TestOnlyWhatNoObjectHasIsAnOrphan(t *testing.T) {
	w := start(t)
	w.used("one")
	orphan := w.create("pvc-lost")
	const uid = "0d5a1f2e-2222-4222-8333-00000000000a"
	w.create("pvc-" + uid)
	w.kube.Store(kube.Claims, "space", "waits", object{"metadata": object{"uid": uid}, "status": object{"phase": "Pending"}})
	static, old := w.create("static"), w.create("old")
	w.storePV("by-hand", strings.ToUpper(static), nil)
	w.kube.Store(kube.PersistentVolumes, "", "in-tree", object{"spec": object{"cinder": object{"volumeID": old}}})
	w.tagged("of another cluster", map[string]string{volumes.ClusterKey: "other"})
	w.tagged("of nobody", nil)
	if o := w.wantOrphans("volume " + orphan); !o.Wrong() || o.Unseen.Err() != nil || o.Doubt != "" || o.Clouds[0].Known != 3 {
		t.Errorf("%+v", o)
	}
	// The same, a moment after they were made.
	o, err := inspect.LookForOrphans(t.Context(), w.from, cluster, day, time.Now())
	if err != nil || len(o.Orphans) > 0 || o.Wrong() {
		t.Errorf("%+v, %v", o, err)
	}
	var out bytes.Buffer
	if err := w.orphans().Print(&out); err != nil || !strings.Contains(out.String(), "openstack volume delete "+orphan+"\n") || strings.Contains(out.String(), w.volume) {
		t.Errorf("%s, %v", out.String(), err)
	}
}

func TestOfVolumesOfOneNameThatCountsWhichAPersistentVolumeHas(t *testing.T) {
	w := start(t)
	older := w.create("pvc-1")
	younger := w.create("pvc-1")
	third := w.create("pvc-1")
	w.storePV("pvc-1", younger, nil)
	o := w.wantOrphans("twin "+older, "twin "+third)
	for _, one := range o.Orphans {
		if !strings.Contains(one.Why, younger) {
			t.Errorf("%+v", one)
		}
	}
	w.remove(o)
	w.wantOrphans()
	w.create("pvc-1")
	w.create("pvc-1")
	w.kube.Delete(kube.PersistentVolumes, "", "pvc-1")
	found := told(w.orphans())
	if len(found) != 3 || !strings.HasPrefix(found[2], "volume ") {
		t.Errorf("%q", found)
	}
}

func TestSnapshotsAndBackupsWithoutAContentAreOrphans(t *testing.T) {
	w := start(t)
	snapshot := func(name string, metadata map[string]string) string {
		t.Helper()
		if metadata == nil {
			metadata = map[string]string{}
		}
		metadata[volumes.ClusterKey] = cluster
		s, err := w.CreateSnapshot(t.Context(), cloud.SnapshotRequest{VolumeID: w.volume, Name: name, Metadata: metadata})
		w.must(err)
		for s.Status != cloud.SnapshotAvailable {
			s, err = w.GetSnapshot(t.Context(), s.ID)
			w.must(err)
		}
		return s.ID
	}
	const uid = "0d5a1f2e-2222-4222-8333-00000000000b"
	made, bound, lost := snapshot("a", nil), snapshot("b", nil), snapshot("c", nil)
	snapshot("snapshot-"+uid, nil)
	left := snapshot("d", map[string]string{"cinder.csi.openstack.org/temporary-for-backup": "x"})
	backup, err := w.CreateBackup(t.Context(), cloud.BackupRequest{VolumeID: w.volume, Name: "e", Metadata: map[string]string{volumes.ClusterKey: cluster}})
	w.must(err)
	content := func(name string, source, status object) {
		w.kube.Store(kube.SnapshotContents, "", name, object{
			"spec":   object{"driver": driverName, "source": source, "volumeSnapshotRef": object{"namespace": "space", "name": "s", "uid": uid}},
			"status": status,
		})
	}
	content("made", object{"volumeHandle": w.volume}, object{"snapshotHandle": made})
	content("bound", object{"snapshotHandle": bound}, nil)
	content("waits", object{"volumeHandle": w.volume}, nil)
	o := w.wantOrphans("snapshot "+lost, "snapshot "+left, "backup "+backup.ID)
	for _, one := range o.Orphans {
		if one.ID == left && !strings.Contains(one.Why, "for a backup only") {
			t.Errorf("%+v", one)
		}
	}
	w.remove(o)
	w.wantOrphans()
	snapshot("f", nil)
	// What can't be compared isn't told, and said.
	w.kube.Without(kube.SnapshotContents)
	if o := w.wantOrphans(); o.Unseen.Err() == nil {
		t.Error("not told")
	}
}

func TestAttachmentsThatNobodyAsksForAreOrphans(t *testing.T) {
	w := start(t)
	w.used("one")
	w.wantOrphans()
	// The node has lost its entry for a moment: its server isn't known.
	w.kube.Store(kube.CSINodes, "", "node-one", nil)
	w.wantOrphans()
	w.kube.Delete(kube.Attachments, "", "va-one")
	o := w.wantOrphans("attachment " + w.volume)
	if o.Orphans[0].ServerID != w.cloud.ServerID("one") || o.Orphans[0].ID == "" || strings.Contains(strings.Join(o.Orphans[0].Cure, " "), "delete") {
		t.Errorf("%+v", o.Orphans)
	}
	// It ends while the command looks.
	w.whileKubernetesIsRead(func() {
		w.must(w.DetachVolume(t.Context(), w.cloud.ServerID("one"), w.volume))
		w.until(w.volume, cloud.VolumeAvailable)
	})
	w.wantOrphans()
	w.reserve(w.cloud.ServerID("two"), false)
	w.wantOrphans("attachment " + w.volume)
}

// remove runs the commands by which orphans go.
func (w *world) remove(o *inspect.Orphans) {
	w.Helper()
	for _, one := range o.Orphans {
		for _, line := range one.Cure {
			if !strings.HasPrefix(line, "#") {
				w.must(w.run(line, nil))
			}
		}
	}
	for {
		d, err := w.admin.Dump(w.Context())
		w.must(err)
		if len(d.Tasks) == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// whileKubernetesIsRead does something before the first answer of Kubernetes.
func (w *world) whileKubernetesIsRead(do func()) {
	pass, once := w.kube.Config.Handler, sync.Once{}
	w.kube.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		once.Do(do)
		pass.ServeHTTP(rw, req)
	})
}

func TestAVolumeThatGetsItsPersistentVolumeMeanwhileIsNone(t *testing.T) {
	w := start(t)
	id := w.create("pvc-new")
	w.wantOrphans("volume " + id)
	w.whileKubernetesIsRead(func() { w.storePV("pvc-new", id, nil) })
	w.wantOrphans()
}

func TestAListThatIsNotWholeMakesNoOrphans(t *testing.T) {
	t.Run("of Kubernetes", func(t *testing.T) {
		for _, kind := range []kube.Resource{kube.PersistentVolumes, kube.Claims, kube.SnapshotContents, kube.Attachments, kube.CSINodes} {
			w := start(t)
			w.create("pvc-lost")
			pass := w.kube.Config.Handler
			w.kube.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
				if strings.HasSuffix(req.URL.Path, "/"+kind.GVR().Resource) {
					kubetest.Status(rw, 500, "InternalError", "etcd is gone", "")
					return
				}
				pass.ServeHTTP(rw, req)
			})
			if o := w.wantOrphans(); o.Unseen.Err() == nil || o.Wrong() {
				t.Errorf("%s: %+v", kind, o)
			}
		}
	})
	t.Run("of the cloud", func(t *testing.T) {
		for _, operation := range []string{"volume.list", "snapshot.list", "backup.list", "cinder-attachment.list"} {
			w := start(t)
			w.create("pvc-lost")
			w.faults(admin.Fault{Operation: operation, Before: 503})
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			o, err := inspect.LookForOrphans(ctx, w.from, cluster, day, time.Now().Add(day+time.Hour))
			cancel()
			if err != nil || len(o.Orphans) > 0 || o.Unseen.Err() == nil {
				t.Errorf("%s: %+v, %v", operation, o, err)
			}
		}
	})
}

func TestEachCloudIsLookedAt(t *testing.T) {
	w, other := start(t), start(t)
	w.must(other.DeleteVolume(t.Context(), other.volume))
	lost := other.create("pvc-lost")
	w.from.Clouds = append(w.from.Clouds, inspect.Cloud{Name: "b", Client: other.Client}, inspect.Cloud{Name: "c", Err: errors.New("connection refused")})
	o := w.wantOrphans("volume " + lost)
	if len(o.Clouds) != 2 || o.Orphans[0].Cloud != "b" || len(o.Unseen) != 1 {
		t.Errorf("%+v", o)
	}
}

func TestAnotherClusterIsNoReasonToDelete(t *testing.T) {
	w := start(t)
	w.kube.Delete(kube.PersistentVolumes, "", "pv-1")
	w.kube.Delete(kube.Claims, "space", "data")
	w.storePV("pv-2", nobody, nil) // of this Kubernetes, in another project
	o := w.wantOrphans("volume " + w.volume)
	var out bytes.Buffer
	if err := o.Print(&out); err != nil || o.Doubt == "" || len(o.Orphans[0].Cure) > 0 || strings.Contains(out.String(), "openstack volume delete") {
		t.Errorf("%s, %v", out.String(), err)
	}
}

func TestTheQuestionHasToMakeSense(t *testing.T) {
	if _, err := inspect.LookForOrphans(t.Context(), inspect.Sources{}, "", day, time.Now()); err == nil || !strings.Contains(err.Error(), "--cluster") {
		t.Errorf("got %v", err)
	}
	if _, err := inspect.LookForOrphans(t.Context(), inspect.Sources{}, cluster, time.Minute, time.Now()); err == nil || !strings.Contains(err.Error(), "--older-than") {
		t.Errorf("got %v", err)
	}
}

// The lists are those of a service over HTTP; their things are as old as the test says.
func TestOrphansAreCountedOnceTwoListsHaveThem(t *testing.T) {
	w := start(t)
	w.create("pvc-lost")
	service := volumes.New(w.Client, volumes.Options{Cluster: cluster})
	t.Cleanup(service.Close)
	list := func() map[string]volumes.Lists {
		_, _, err := service.List(t.Context(), cloud.Page{})
		w.must(err)
		lists := service.LastLists()
		lists.Volumes.Own = slices.Clone(lists.Volumes.Own)
		for i := range lists.Volumes.Own {
			lists.Volumes.Own[i].CreatedAt = lists.Volumes.Own[i].CreatedAt.Add(-day - time.Hour)
		}
		return map[string]volumes.Lists{"default": lists}
	}
	counts := make(chan map[string]volumes.Lists)
	done := make(chan struct{}, 1)
	registry := prometheus.NewRegistry()
	counter := &inspect.Counter{Kubernetes: w.from.Kubernetes, Every: time.Millisecond, Logger: zap.NewNop(), Lists: func(ctx context.Context) map[string]volumes.Lists {
		select {
		case done <- struct{}{}: // the count before is over
		case <-ctx.Done():
		}
		select {
		case lists := <-counts:
			return lists
		case <-ctx.Done():
			return nil
		}
	}}
	w.must(counter.Register(registry))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { counter.Run(ctx) })
	defer group.Wait()
	defer cancel()
	<-done
	count := func(lists map[string]volumes.Lists) {
		counts <- lists
		<-done
	}
	want := func(orphans float64) {
		t.Helper()
		got := map[string]float64{}
		families, err := registry.Gather()
		w.must(err)
		for _, family := range families {
			for _, m := range family.GetMetric() {
				got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetGauge().GetValue()
			}
		}
		if diff := cmp.Diff(map[string]float64{"default volume": orphans, "default twin": 0, "default attachment": 0}, got); diff != "" {
			t.Error(diff)
		}
	}
	first, asked := list(), w.kube.Asked()
	count(first)
	want(0)
	if w.kube.Asked() == asked {
		t.Error("Kubernetes was not asked")
	}
	asked = w.kube.Asked()
	count(first) // the same lists tell nothing new
	want(0)
	if w.kube.Asked() != asked {
		t.Error("Kubernetes was asked again")
	}
	count(list())
	want(1)
	count(map[string]volumes.Lists{})
	if n, err := testutil.GatherAndCount(registry, "cinder_csi_orphans"); n != 0 || err != nil {
		t.Errorf("%d series of a cloud that is gone, %v", n, err)
	}
}

// counting has a counter at work until the test ends, and returns what it tells: the
// numbers by kind.
func (w *world) counting(lists func() volumes.Lists) (told func() map[string]float64) {
	w.Helper()
	registry := prometheus.NewRegistry()
	counter := &inspect.Counter{Kubernetes: w.from.Kubernetes, Every: time.Millisecond, Logger: zap.NewNop(), Lists: func(context.Context) map[string]volumes.Lists {
		return map[string]volumes.Lists{"default": lists()}
	}}
	w.must(counter.Register(registry))
	ctx, cancel := context.WithCancel(w.Context())
	var group sync.WaitGroup
	group.Go(func() { counter.Run(ctx) })
	w.Cleanup(func() { cancel(); group.Wait() })
	return func() map[string]float64 {
		families, err := registry.Gather()
		w.must(err)
		told := map[string]float64{}
		for _, family := range families {
			for _, m := range family.GetMetric() {
				told[m.GetLabel()[1].GetValue()] = m.GetGauge().GetValue()
			}
		}
		return told
	}
}

// eventually waits for something to come true.
func (w *world) eventually(what string, met func() bool) {
	w.Helper()
	for deadline := time.Now().Add(8 * time.Second); !met(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatal(what)
		}
	}
}

// A replica that isn't asked for lists any more, since another one leads, has nothing to
// tell: the orphans may be gone for long.
func TestWhatWasCountedInAnOldListIsToldNoMore(t *testing.T) {
	w := start(t)
	begun := time.Now()
	lost := volumes.Listed{ID: nobody, Name: "pvc-lost", CreatedAt: begun.Add(-2 * day)}
	told := w.counting(func() volumes.Lists {
		// Two lists of an hour ago, or nearly, and none after these.
		at := begun.Add(-time.Hour + time.Second + min(time.Since(begun), 100*time.Millisecond))
		return volumes.Lists{Volumes: volumes.Listing{At: at, Own: []volumes.Listed{lost}}, Snapshots: volumes.Listing{At: begun}}
	})
	w.eventually("it isn't counted", func() bool { return told()["volume"] == 1 })
	w.eventually("it is told for ever", func() bool { _, there := told()["volume"]; return !there })
	if _, there := told()["snapshot"]; !there {
		t.Error("what was listed lately is told no more")
	}
}

func TestSnapshotsThatCantBeComparedAreNotCounted(t *testing.T) {
	w := start(t)
	w.kube.Without(kube.SnapshotContents)
	begun := time.Now()
	told := w.counting(func() volumes.Lists {
		return volumes.Lists{Volumes: volumes.Listing{At: begun}, Snapshots: volumes.Listing{At: begun}, Backups: volumes.Listing{At: begun}}
	})
	w.eventually("nothing is counted", func() bool { return len(told()) > 0 })
	if diff := cmp.Diff(map[string]float64{"volume": 0, "twin": 0, "attachment": 0}, told()); diff != "" {
		t.Error(diff)
	}
}

// An API server that never answers is asked again.
func TestAnAPIServerThatHangsDoesNotEndTheCounting(t *testing.T) {
	w := start(t)
	w.kube.Instead(func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	k, err := kube.New(kube.Options{Kubeconfig: w.kube.Kubeconfig(t, "token"), Timeout: 50 * time.Millisecond})
	w.must(err)
	t.Cleanup(k.Close)
	w.from.Kubernetes = k
	begun := time.Now()
	asked := w.kube.Asked()
	told := w.counting(func() volumes.Lists { return volumes.Lists{Volumes: volumes.Listing{At: begun}} })
	w.eventually("it isn't asked", func() bool { return w.kube.Asked() > asked })
	w.kube.Instead(nil)
	w.eventually("it isn't asked again", func() bool { return len(told()) > 0 })
}
