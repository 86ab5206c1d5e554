package volumes_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

// until asks for a volume until it is there, as the provisioner does.
func (w *world) until(s *volumes.Service, req volumes.CreateRequest) *cloud.Volume {
	w.Helper()
	for pause := 500 * time.Millisecond; ; pause *= 2 {
		ctx, cancel := context.WithTimeout(strictly(w.Context(), w.T, "name"), time.Minute)
		v, err := s.Create(ctx, req)
		cancel()
		if err == nil {
			return v
		}
		if pause > time.Minute {
			w.Fatal(err)
		}
		time.Sleep(pause)
	}
}

// A POST whose answer is lost takes effect later, when the call is repeated by the same
// controller or by another one, beside few or many other creations. There is one
// volume in the end, and all that were told of one were told of that.
func TestOneNameEndsInOneVolume(t *testing.T) {
	for _, busy := range []int{0, 10} {
		for late := time.Millisecond; late < 1500*time.Millisecond; late += 50 * time.Millisecond {
			in(t, func(w *world) {
				var group sync.WaitGroup
				req := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1}
				other := volumes.New(w.cloud, volumes.Options{Cluster: cluster})
				w.cloud.SetFault(cloudtest.Fault{Op: "volume.create", Times: 1, Late: late, Err: unavailable})
				_, err := w.service.Create(w.within(time.Minute), req)
				if err != nil {
					w.wantError(err, volumes.ErrUnfinished)
				}
				for n := range busy {
					group.Go(func() { w.create(volumes.CreateRequest{Name: fmt.Sprint("other-", n)}) })
				}
				told := make([]*cloud.Volume, 2)
				for i, s := range []*volumes.Service{w.service, other} {
					group.Go(func() { told[i] = w.until(s, req) })
				}
				group.Wait()
				last := w.until(w.service, req)
				if told[0].ID != told[1].ID || told[0].ID != last.ID {
					t.Errorf("late by %v: %s, %s and %s were told", late, told[0].ID, told[1].ID, last.ID)
				}
				w.wantVolumes(1 + busy)
			})
		}
	}
}

// Of several volumes of one name the older is used. The younger is removed where nobody
// can have used it.
func TestWhatBecomesOfTheYoungerOfTwo(t *testing.T) {
	tag := map[string]string{volumes.ClusterKey: cluster}
	mark := map[string]string{volumes.ClusterKey: cluster, volumes.NeverPublishedKey: "true"}
	server := []cloud.Attachment{{ServerID: "11111111-2222-4333-8444-555555555555"}}
	for name, c := range map[string]struct {
		twin  cloud.Volume
		stays bool
	}{
		"never published":                  {twin: cloud.Volume{Status: cloud.VolumeAvailable, Metadata: mark}},
		"failed":                           {twin: cloud.Volume{Status: cloud.VolumeError, Metadata: mark}},
		"published once":                   {cloud.Volume{Status: cloud.VolumeAvailable, Metadata: tag}, true},
		"attached by hand":                 {cloud.Volume{Status: cloud.VolumeInUse, Metadata: mark, Attachments: server}, true},
		"restored, with metadata of old":   {cloud.Volume{Status: cloud.VolumeAvailable, Metadata: mark, BackupID: "11111111-2222-4333-8444-555555555555"}, true},
		"of another cluster":               {cloud.Volume{Status: cloud.VolumeAvailable, Metadata: map[string]string{volumes.ClusterKey: "x", volumes.NeverPublishedKey: "true"}}, true},
		"being restored by hand":           {cloud.Volume{Status: cloud.VolumeRestoringBackup, Metadata: mark}, true},
		"being deleted":                    {cloud.Volume{Status: cloud.VolumeDeleting, Metadata: mark}, true},
		"one that Cinder failed to delete": {cloud.Volume{Status: cloud.VolumeErrorDeleting, Metadata: mark}, true},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				older := w.cloud.Add(cloud.Volume{Name: "pvc-1", SizeGiB: 1, Status: cloud.VolumeAvailable, Metadata: tag})
				c.twin.Name, c.twin.SizeGiB = "pvc-1", 1
				w.cloud.Add(c.twin)
				if v := w.create(volumes.CreateRequest{Name: "pvc-1"}); v.ID != older {
					t.Fatal("the younger is used")
				}
				n := 1
				if c.stays {
					n = 2
				}
				if deletions := w.cloud.Requests()["volume.delete"]; deletions != 2-n {
					t.Errorf("%d deletions", deletions)
				}
				w.wantVolumes(n)
			})
		})
	}
}

// Younger volumes that the cloud doesn't finish don't keep the older one from its claim.
func TestTwinsThatAreStuckWithholdNothing(t *testing.T) {
	in(t, func(w *world) {
		mark := map[string]string{volumes.ClusterKey: cluster, volumes.NeverPublishedKey: "true"}
		older := w.cloud.Add(cloud.Volume{Name: "pvc-1", SizeGiB: 1, Status: cloud.VolumeAvailable, Metadata: mark})
		for range 5 {
			w.cloud.Add(cloud.Volume{Name: "pvc-1", SizeGiB: 1, Status: cloud.VolumeCreating, Metadata: mark})
		}
		begun := time.Now()
		v, err := w.service.Create(w.within(3*time.Minute), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1})
		if took := time.Since(begun); err != nil || v.ID != older || took > 62*time.Second {
			t.Errorf("got %+v, %v, after %v", v, err, took)
		}
	})
}

// What was given up by its owner is not in the way.
func TestWhatIsBeingDeletedIsNotInTheWay(t *testing.T) {
	tag := map[string]string{volumes.ClusterKey: cluster}
	for _, status := range []cloud.VolumeStatus{cloud.VolumeDeleting, cloud.VolumeErrorDeleting} {
		for _, size := range []int64{1, 7} {
			in(t, func(w *world) {
				old := w.cloud.Add(cloud.Volume{Name: "pvc-1", SizeGiB: size, Status: status, Metadata: tag})
				first := w.create(volumes.CreateRequest{Name: "pvc-1"})
				if again := w.create(volumes.CreateRequest{Name: "pvc-1"}); first.ID == old || again.ID != first.ID {
					t.Errorf("%s: %s, then %s", status, first.ID, again.ID)
				}
			})
		}
	}
}

// A creation that the cloud has lost gives its worker back. It is repeated where the
// cloud shows that no host has heard of it, and never where one has.
func TestACreationThatTheCloudHasLost(t *testing.T) {
	for outcome, repeated := range map[string]bool{"lost": true, "stuck": false} {
		t.Run(outcome, func(t *testing.T) {
			in(t, func(w *world) {
				w.cloud.SetFault(cloudtest.Fault{Op: "volume.create", Times: 1, Outcome: outcome})
				req := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1}
				begun := time.Now()
				_, err := w.service.Create(w.within(3*time.Minute), req)
				w.wantError(err, volumes.ErrUnfinished, "creating", "1m")
				if took := time.Since(begun); took > 62*time.Second {
					t.Errorf("it took %v", took)
				}
				id := w.cloud.Volumes()[0].ID
				time.Sleep(50 * time.Minute)
				_, err = w.service.Create(w.within(3*time.Minute), req)
				w.wantError(err, volumes.ErrUnfinished, "creating", "52m")
				if n := w.cloud.Requests()["volume.delete"]; n > 0 {
					t.Errorf("%d deletions of what may still be made", n)
				}
				time.Sleep(10 * time.Minute)
				v, err := w.service.Create(w.within(3*time.Minute), req)
				if repeated {
					if err != nil || v.ID == id {
						t.Fatalf("got %+v, %v", v, err)
					}
					w.wantVolumes(1)
					return
				}
				w.wantError(err, volumes.ErrUnfinished, "creating", "1h")
				w.get(id)
				// A host that is slow ends it after all.
				w.cloud.Set(id, func(v *cloud.Volume) { v.Status = cloud.VolumeAvailable })
				if v := w.create(req); v.ID != id {
					t.Error("a second volume was made")
				}
			})
		})
	}
}

// elsewhen is a cloud whose clock differs from the driver's.
type elsewhen struct {
	*cloudtest.Cloud
	by time.Duration
}

func (c elsewhen) CreateVolume(ctx context.Context, req cloud.VolumeRequest) (*cloud.Volume, error) {
	v, err := c.Cloud.CreateVolume(ctx, req)
	if v != nil {
		v.CreatedAt = v.CreatedAt.Add(c.by)
	}
	return v, err
}

// A clock that is wrong makes no volume of this call old.
func TestAClockThatIsWrongLosesNoCreation(t *testing.T) {
	for _, by := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
		in(t, func(w *world) {
			s := volumes.New(elsewhen{w.cloud, by}, volumes.Options{Cluster: cluster})
			if _, err := s.Create(w.within(time.Minute), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1}); err != nil {
				t.Error(err)
			}
			if counts := w.cloud.Requests(); counts["volume.create"] != 1 || counts["volume.delete"] != 0 {
				t.Errorf("%v apart: %v", by, counts)
			}
		})
	}
}

// Names that Cinder stores otherwise make one volume all the same.
func TestANameWithWhiteSpaceMakesOneVolume(t *testing.T) {
	for _, name := range []string{"data ", " data", "data\t\n", "\u00a0data\u2003", "\x1cdata\x1f"} {
		in(t, func(w *world) {
			first := w.create(volumes.CreateRequest{Name: name})
			if again := w.create(volumes.CreateRequest{Name: name}); again.ID != first.ID {
				t.Errorf("%q made two volumes", name)
			}
			w.wantVolumes(1)
		})
	}
}

// Without a name for the cluster everybody's volumes would be one's own.
func TestNothingIsMadeForAClusterWithoutAName(t *testing.T) {
	in(t, func(w *world) {
		s := volumes.New(w.cloud, volumes.Options{})
		foreign := w.create(volumes.CreateRequest{Name: "postgres"})
		_, err := s.Create(w.Context(), volumes.CreateRequest{Name: "postgres", SizeGiB: 1})
		w.wantError(err, volumes.ErrState, "--cluster")
		_, err = s.CreateSnapshot(w.Context(), volumes.SnapshotRequest{Name: "snap", VolumeID: foreign.ID})
		w.wantError(err, volumes.ErrState, "--cluster")
		w.wantVolumes(1)
	})
}

// A call may end at any moment: by its deadline, with its process, or with an answer
// that was lost. What it has made is found by the next one, which may ask for the same
// or for something else, and no final error leaves anything behind.
func TestNothingIsLeftWhereverACreationIsInterrupted(t *testing.T) {
	single := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Type: "single"}
	shared := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Type: "single", Multiattach: true}
	good := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Type: "multiattach", Multiattach: true}
	full := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Zone: "b", AcceptZones: []string{"b"}}
	next := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Zone: "b", AcceptZones: []string{"b", "a"}}
	cases := map[string]struct {
		first, then volumes.CreateRequest
		want        error
	}{
		"a plain volume":                             {single, single, nil},
		"for several servers":                        {good, good, nil},
		"for several servers, on a type for one":     {shared, shared, volumes.ErrNotMultiattach},
		"then for one":                               {shared, single, nil},
		"in a zone without room":                     {full, full, volumes.ErrNoCapacity},
		"in a zone without room, then in others too": {full, next, nil},
		"in the second of two zones":                 {next, next, nil},
	}
	for name, c := range cases {
		for _, hidden := range []bool{false, true} {
			for _, lost := range []bool{false, true} {
				for cut := time.Duration(0); cut < 1200*time.Millisecond; cut += 35 * time.Millisecond {
					in(t, func(w *world) {
						w.cloud.ZoneNames, w.cloud.FullZones, w.cloud.HideSpecs = []string{"a", "b"}, []string{"b"}, hidden
						if lost {
							w.cloud.SetFault(cloudtest.Fault{Op: "volume.create", Times: 1, After: true, Err: unavailable})
						}
						_, err := w.service.Create(w.within(cut), c.first)
						if final := err != nil && !errors.Is(err, volumes.ErrUnfinished) && !errors.Is(err, context.DeadlineExceeded); final {
							w.wantVolumes(0)
						}
						time.Sleep(time.Minute)
						restarted := volumes.New(w.cloud, volumes.Options{Cluster: cluster})
						v, err := restarted.Create(w.within(time.Minute), c.then)
						if c.want == nil {
							if err != nil || c.then.Multiattach && !v.Multiattach {
								t.Errorf("%s, hidden %t, answer lost %t, cut off after %v: %+v, %v", name, hidden, lost, cut, v, err)
							}
							w.wantVolumes(1)
							return
						}
						w.wantError(err, c.want, "")
						w.wantVolumes(0)
					})
				}
			}
		}
	}
}

// endless is a cloud whose lists have no end.
type endless struct {
	*cloudtest.Cloud
	pages int
}

func (c *endless) ListVolumes(_ context.Context, filter cloud.VolumeFilter, _ cloud.Page) ([]cloud.Volume, string, error) {
	c.pages++
	page := make([]cloud.Volume, 1000)
	for i := range page {
		page[i].Name = filter.Name
	}
	return page, fmt.Sprint(c.pages), nil
}

func TestAListWithoutAnEndIsGivenUp(t *testing.T) {
	in(t, func(w *world) {
		c := &endless{Cloud: w.cloud}
		_, err := volumes.New(c, volumes.Options{Cluster: cluster}).Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1})
		w.wantError(err, volumes.ErrUnfinished, "more than")
		if c.pages > 20 {
			t.Errorf("%d pages were read", c.pages)
		}
	})
}
