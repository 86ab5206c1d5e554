package volumes_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

func TestCreateWaitsUntilTheVolumeIsAvailable(t *testing.T) {
	in(t, func(w *world) {
		start := time.Now()
		v := w.create(volumes.CreateRequest{Name: "pvc-1", SizeGiB: 3, Type: "ssd", Metadata: map[string]string{"k": "v"}})
		if v.Status != cloud.VolumeAvailable || v.SizeGiB != 3 || v.Type != "ssd" {
			t.Fatalf("got %+v", v)
		}
		if v.Metadata["k"] != "v" || v.Metadata[volumes.ClusterKey] != cluster {
			t.Fatalf("metadata %v", v.Metadata)
		}
		if took := time.Since(start); took > time.Second {
			t.Fatalf("took %v", took)
		}
		if got := w.spentCreating(); got != "volume.create:1" {
			t.Fatalf("requests: %s", got)
		}
	})
}

func TestCreateRepeatedReturnsTheSameVolume(t *testing.T) {
	in(t, func(w *world) {
		req := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1}
		first, again := w.create(req), w.create(req)
		if first.ID != again.ID || len(w.cloud.Volumes()) != 1 {
			t.Fatalf("%s and %s", first.ID, again.ID)
		}
	})
}

func TestCreateRefusesAnotherVolumeOfTheSameName(t *testing.T) {
	source := uuid.NewString()
	cases := map[string]volumes.CreateRequest{
		"with another size":     {Name: "pvc-1", SizeGiB: 2},
		"with a smaller size":   {Name: "pvc-1", SizeGiB: 1, LimitGiB: 1},
		"of another type":       {Name: "pvc-1", SizeGiB: 2, Type: "slow"},
		"in another zone":       {Name: "pvc-1", SizeGiB: 2, Zone: "mars"},
		"from a source volume":  {Name: "pvc-1", SizeGiB: 2, SourceVolumeID: source},
		"from a snapshot":       {Name: "pvc-1", SizeGiB: 2, SnapshotID: source},
		"for several servers":   {Name: "pvc-1", SizeGiB: 2, Multiattach: true},
		"in none of some zones": {Name: "pvc-1", SizeGiB: 2, Zone: "a", AcceptZones: []string{"a", "b"}},
	}
	for name, req := range cases {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				size := int64(2)
				if req.SizeGiB == 2 && name == "with another size" {
					size = 1
				}
				w.create(volumes.CreateRequest{Name: "pvc-1", SizeGiB: size, Type: "ssd"})
				_, err := w.service.Create(w.Context(), req)
				w.wantError(err, volumes.ErrExists)
			})
		})
	}
}

// A volume whose type the cloud doesn't tell, or not as a text, is the one that was asked
// for: ErrExists would be final, and leave it behind.
func TestAVolumeWhoseTypeIsNotTold(t *testing.T) {
	in(t, func(w *world) {
		req := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Type: "ssd"}
		v := w.create(req)
		w.cloud.Set(v.ID, func(v *cloud.Volume) { v.Type = "" })
		if again := w.create(req); again.ID != v.ID {
			t.Errorf("got %s, want %s", again.ID, v.ID)
		}
	})
}

func TestCreateAcceptsItsEarlierVolumeInAnyOfTheZonesThatWillDo(t *testing.T) {
	in(t, func(w *world) {
		w.cloud.ZoneNames = []string{"a", "b"}
		first := w.create(volumes.CreateRequest{Name: "pvc-1", Zone: "a"})
		again := w.create(volumes.CreateRequest{Name: "pvc-1", Zone: "b", AcceptZones: []string{"b", "a"}})
		if first.ID != again.ID {
			t.Fatal("a second volume was made")
		}
	})
}

func TestCreateNeverAdoptsAVolumeOfOthers(t *testing.T) {
	foreign := map[string]map[string]string{
		"of another cluster": {volumes.ClusterKey: "other"},
		"without a cluster":  nil,
	}
	for name, metadata := range foreign {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				id := w.cloud.Add(cloud.Volume{Name: "pvc-1", SizeGiB: 1, Status: cloud.VolumeAvailable, Metadata: metadata})
				if v := w.create(volumes.CreateRequest{Name: "pvc-1"}); v.ID == id {
					t.Fatal("a foreign volume was adopted")
				}
			})
		})
	}
}

func TestCreateFindsTheVolumeWhoseAnswerWasLost(t *testing.T) {
	in(t, func(w *world) {
		w.cloud.SetFault(cloudtest.Fault{Op: "volume.create", Times: 1, After: true, Err: unavailable})
		w.create(volumes.CreateRequest{Name: "pvc-1"})
		if n := len(w.cloud.Volumes()); n != 1 {
			t.Fatalf("%d volumes", n)
		}
	})
}

func TestCreateAsksToBeRepeatedWhenTheRequestWasLost(t *testing.T) {
	in(t, func(w *world) {
		w.cloud.SetFault(cloudtest.Fault{Op: "volume.create", Times: 1, Err: unavailable})
		_, err := w.service.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1})
		w.wantError(err, volumes.ErrUnfinished)
		w.create(volumes.CreateRequest{Name: "pvc-1"})
		if n := len(w.cloud.Volumes()); n != 1 {
			t.Fatalf("%d volumes", n)
		}
	})
}

func TestCreateThatIsInterruptedIsFoundByItsRepetition(t *testing.T) {
	in(t, func(w *world) {
		w.cloud.Latency.Create = 10 * time.Second
		_, err := w.service.Create(w.within(time.Second), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1})
		w.wantError(err, context.DeadlineExceeded)
		w.create(volumes.CreateRequest{Name: "pvc-1"})
		if n := len(w.cloud.Volumes()); n != 1 {
			t.Fatalf("%d volumes", n)
		}
	})
}

func TestConcurrentCreatesOfOneNameMakeOneVolume(t *testing.T) {
	in(t, func(w *world) {
		w.cloud.Latency.Create = 5 * time.Second
		var group sync.WaitGroup
		busy := make(chan error, 10)
		for range 10 {
			group.Go(func() {
				if _, err := w.service.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1}); err != nil {
					busy <- err
				}
			})
		}
		group.Wait()
		close(busy)
		for err := range busy {
			w.wantError(err, volumes.ErrBusy)
		}
		if n := len(w.cloud.Volumes()); n != 1 {
			t.Fatalf("%d volumes", n)
		}
	})
}

func TestCreateTellsWhyCinderFailedAndLeavesNothing(t *testing.T) {
	cases := map[string]struct {
		cause string
		want  error
	}{
		"no back end has room":     {"schedule allocate volume:Could not find any available weighted backend.", volumes.ErrNoCapacity},
		"the back end breaks":      {"create volume from backend storage:Driver failed to create the volume.", volumes.ErrUnfinished},
		"Cinder does not tell why": {"", volumes.ErrUnfinished},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				w.cloud.SetFault(cloudtest.Fault{Op: "volume.create", Times: 1, Outcome: "error", Cause: c.cause})
				_, err := w.service.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1})
				w.wantError(err, c.want, c.cause)
				if n := len(w.cloud.Volumes()); n != 0 {
					t.Fatalf("%d volumes are left", n)
				}
				w.create(volumes.CreateRequest{Name: "pvc-1"})
			})
		})
	}
}

func TestCreateMakesAFailedAttemptAnewOnlyIfItNeverWasUsable(t *testing.T) {
	cases := map[string]struct {
		cause    string
		attached bool
		// published: it was used after all, and is in error since.
		published bool
		anew      bool
	}{
		"Cinder says that creating it failed":    {cause: "schedule allocate volume:No valid backend.", anew: true},
		"Cinder says that something else failed": {cause: "extend volume:Volume Driver failed to extend volume."},
		"Cinder says nothing":                    {},
		"a server has it":                        {cause: "create volume from backend storage:x", attached: true},
		"a server had it, made by another host":  {cause: "create volume from backend storage:x", published: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				w.cloud.SetFault(cloudtest.Fault{Op: "volume.create", Times: 1, Outcome: "error", Cause: c.cause})
				made, err := w.cloud.CreateVolume(w.Context(), cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1, Metadata: map[string]string{volumes.ClusterKey: cluster}})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if c.attached {
					w.cloud.Set(made.ID, func(v *cloud.Volume) { v.Attachments = []cloud.Attachment{{ServerID: w.server}} })
				}
				if c.published {
					w.cloud.Set(made.ID, func(v *cloud.Volume) { v.Metadata[volumes.NeverPublishedKey] = "false" })
				}
				v, err := w.service.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1})
				if c.anew {
					if err != nil || v.ID == made.ID || len(w.cloud.Volumes()) != 1 {
						t.Fatalf("got %+v, %v", v, err)
					}
					return
				}
				w.wantError(err, volumes.ErrUnfinished)
				if got := w.get(made.ID); got.Status != cloud.VolumeError {
					t.Fatalf("the volume is %s", got.Status)
				}
			})
		})
	}
}

func TestCreateFromASource(t *testing.T) {
	in(t, func(w *world) {
		origin := w.create(volumes.CreateRequest{Name: "origin", SizeGiB: 2})
		snapshot, err := w.service.CreateSnapshot(w.Context(), volumes.SnapshotRequest{Name: "snap", VolumeID: origin.ID})
		if err != nil {
			t.Fatal(err)
		}
		w.cloud.Requests()

		v := w.create(volumes.CreateRequest{Name: "restored", SizeGiB: 5, SnapshotID: snapshot.ID})
		if v.SizeGiB != 5 || v.SnapshotID != snapshot.ID {
			t.Fatalf("got %+v", v)
		}
		if got := w.spentCreating(); got != "volume.create:1" {
			t.Fatalf("requests: %s", got)
		}
		if v := w.create(volumes.CreateRequest{Name: "clone", SizeGiB: 2, SourceVolumeID: origin.ID}); v.SourceVolumeID != origin.ID {
			t.Fatalf("got %+v", v)
		}
		if got := w.spentCreating(); got != "volume.create:1" {
			t.Fatalf("requests: %s", got)
		}
		// Smaller than the source: it gets the source's size.
		if v := w.create(volumes.CreateRequest{Name: "small", SizeGiB: 1, SnapshotID: snapshot.ID}); v.SizeGiB != 2 {
			t.Fatalf("got %d GiB", v.SizeGiB)
		}
		if v := w.create(volumes.CreateRequest{Name: "small", SizeGiB: 1, SnapshotID: snapshot.ID}); v.SizeGiB != 2 {
			t.Fatalf("repeated: got %d GiB", v.SizeGiB)
		}
		_, err = w.service.Create(w.Context(), volumes.CreateRequest{Name: "limited", SizeGiB: 1, LimitGiB: 1, SnapshotID: snapshot.ID})
		w.wantError(err, volumes.ErrTooLarge)
	})
}

func TestCreateFromABackup(t *testing.T) {
	in(t, func(w *world) {
		origin := w.create(volumes.CreateRequest{Name: "origin", SizeGiB: 2})
		req := volumes.SnapshotRequest{Name: "backup", VolumeID: origin.ID, Backup: true}
		backup := w.backup(req)
		v := w.create(volumes.CreateRequest{Name: "restored", SizeGiB: 1, SnapshotID: backup.ID})
		if v.BackupID != backup.ID || v.SizeGiB != 2 {
			t.Fatalf("got %+v", v)
		}
		if again := w.create(volumes.CreateRequest{Name: "restored", SizeGiB: 1, SnapshotID: backup.ID}); again.ID != v.ID {
			t.Fatal("repeated, it made another volume")
		}
		// Repeated while it is restored, when Cinder doesn't tell yet from what.
		slow := volumes.CreateRequest{Name: "slowly restored", SizeGiB: 1, SnapshotID: backup.ID}
		w.cloud.Latency.Create = 10 * time.Second
		_, err := w.service.Create(w.within(5*time.Second), slow)
		w.wantError(err, context.DeadlineExceeded)
		other := slow
		other.SnapshotID = uuid.NewString()
		_, err = w.service.Create(w.Context(), other)
		w.wantError(err, volumes.ErrExists)
		if v := w.create(slow); v.BackupID != backup.ID {
			t.Fatalf("got %+v", v)
		}
	})
}

// Cinder gives a restored volume the metadata of the one that was backed up, which may be of
// another cluster: it is not restored once more for that.
func TestAVolumeFromABackupOfAnotherClusterIsRestoredOnce(t *testing.T) {
	in(t, func(w *world) {
		backup := w.backup(volumes.SnapshotRequest{Name: "backup", VolumeID: w.create(volumes.CreateRequest{Name: "origin"}).ID, Backup: true})
		req := volumes.CreateRequest{Name: "restored", SizeGiB: 1, SnapshotID: backup.ID, Metadata: map[string]string{"team": "a"}}
		w.cloud.Latency.Create = time.Hour
		_, err := w.service.Create(w.Context(), req)
		w.wantError(err, volumes.ErrUnfinished)
		for _, v := range w.cloud.Volumes() {
			if v.Name == req.Name {
				w.cloud.Set(v.ID, func(v *cloud.Volume) {
					v.Status, v.BackupID = cloud.VolumeAvailable, backup.ID
					v.Metadata = map[string]string{volumes.ClusterKey: "other", "team": "b"}
				})
			}
		}
		first, again := w.create(req), w.create(req)
		if now := w.get(first.ID); again.ID != first.ID || now.Metadata[volumes.ClusterKey] != cluster || now.Metadata["team"] != "a" {
			t.Errorf("got %+v, then %s", now, again.ID)
		}
		if n := len(w.cloud.Volumes()); n != 2 {
			t.Errorf("%d volumes", n)
		}
	})
}

// TestAVolumeOverWhichABackupIsRestoredIsNeverRemoved: it was usable before, and the
// failure of the restoration is no failure to create it.
func TestAVolumeOverWhichABackupIsRestoredIsNeverRemoved(t *testing.T) {
	in(t, func(w *world) {
		req := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1}
		v := w.create(req)
		w.cloud.Set(v.ID, func(v *cloud.Volume) { v.Status = cloud.VolumeRestoringBackup })
		go func() {
			time.Sleep(5 * time.Second)
			w.cloud.Set(v.ID, func(v *cloud.Volume) { v.Status = cloud.VolumeError })
		}()
		_, err := w.service.Create(w.Context(), req)
		w.wantError(err, volumes.ErrUnfinished)
		if n := len(w.cloud.Volumes()); n != 1 {
			t.Fatalf("%d volumes are left", n)
		}
	})
}

func TestCreateFromWhatDoesNotExist(t *testing.T) {
	cases := map[string]struct {
		req  volumes.CreateRequest
		want error
	}{
		"no such snapshot or backup": {volumes.CreateRequest{SnapshotID: uuid.NewString()}, cloud.ErrNotFound},
		"no such volume":             {volumes.CreateRequest{SourceVolumeID: uuid.NewString()}, cloud.ErrNotFound},
		"an odd snapshot id":         {volumes.CreateRequest{SnapshotID: "../volumes"}, cloud.ErrNotFound},
		"an odd volume id":           {volumes.CreateRequest{SourceVolumeID: "x"}, cloud.ErrNotFound},
		"no such type":               {volumes.CreateRequest{Type: "no-such-type"}, cloud.ErrInvalid},
		"no such zone":               {volumes.CreateRequest{Zone: "mars"}, cloud.ErrInvalid},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				c.req.Name, c.req.SizeGiB = "pvc-1", 1
				_, err := w.service.Create(w.Context(), c.req)
				w.wantError(err, c.want)
				if errors.Is(err, volumes.ErrUnfinished) {
					t.Fatalf("%v asks to be repeated", err)
				}
			})
		})
	}
}

func TestCreateFindsTheZoneThatALabelStandsFor(t *testing.T) {
	in(t, func(w *world) {
		w.cloud.ZoneNames = []string{"nova", "room 1: left"}
		v := w.create(volumes.CreateRequest{Name: "pvc-1", Zone: "room-1-left"})
		if v.Zone != "room 1: left" {
			t.Fatalf("zone %q", v.Zone)
		}
		w.create(volumes.CreateRequest{Name: "pvc-1", Zone: "room-1-left"})
	})
}

func TestCreateInAnUnknownZoneThatWasOnlyAWishTakesTheDefault(t *testing.T) {
	in(t, func(w *world) {
		if v := w.create(volumes.CreateRequest{Name: "pvc-1", Zone: "compute-1", AnyZone: true}); v.Zone != "nova" {
			t.Fatalf("zone %q", v.Zone)
		}
	})
}

func TestCreateForSeveralServersOnAnUnfitTypeLeavesNothing(t *testing.T) {
	in(t, func(w *world) {
		_, err := w.service.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Type: "single", Multiattach: true})
		w.wantError(err, volumes.ErrNotMultiattach)
		if n := len(w.cloud.Volumes()); n != 0 {
			t.Fatalf("%d volumes are left", n)
		}
		w.wantNoOrphans()
		w.create(volumes.CreateRequest{Name: "pvc-1", Type: "multiattach", Multiattach: true})
	})
}

func TestCreatePastTheQuota(t *testing.T) {
	in(t, func(w *world) {
		w.cloud.QuotaGiB = 5
		_, err := w.service.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 6})
		w.wantError(err, cloud.ErrQuota)
	})
}

func TestCreateOfTwoOldAttemptsTakesTheOlder(t *testing.T) {
	in(t, func(w *world) {
		mine := cloud.Volume{Name: "pvc-1", SizeGiB: 1, Status: cloud.VolumeAvailable, Metadata: map[string]string{volumes.ClusterKey: cluster}}
		older := w.cloud.Add(mine)
		w.cloud.Add(mine)
		if v := w.create(volumes.CreateRequest{Name: "pvc-1"}); v.ID != older {
			t.Fatal("took the younger")
		}
	})
}

// What an odd entry of a list does not tell is no difference, and no volume that is usable.
func TestAnEarlierVolumeOfWhichCinderTellsTooLittleIsAskedForAgain(t *testing.T) {
	tag := map[string]string{volumes.ClusterKey: cluster}
	for name, odd := range map[string]cloud.Volume{
		"no size":   {Name: "pvc-1", Status: cloud.VolumeAvailable, Metadata: tag},
		"no status": {Name: "pvc-1", SizeGiB: 1, Metadata: tag},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				id := w.cloud.Add(odd)
				_, err := w.service.Create(w.within(time.Minute), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1})
				w.wantError(err, volumes.ErrUnfinished, id)
				w.cloud.Set(id, func(v *cloud.Volume) { v.Status, v.SizeGiB = cloud.VolumeAvailable, 1 })
				if v := w.create(volumes.CreateRequest{Name: "pvc-1"}); v.ID != id {
					t.Errorf("got %+v", v)
				}
			})
		})
	}
}
