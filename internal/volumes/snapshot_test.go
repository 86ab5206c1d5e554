package volumes_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

func (w *world) snapshot(name, volumeID string) *volumes.Snapshot {
	w.Helper()
	s, err := w.service.CreateSnapshot(w.within(time.Minute), volumes.SnapshotRequest{Name: name, VolumeID: volumeID})
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// backup asks for a backup until it is ready.
func (w *world) backup(req volumes.SnapshotRequest) *volumes.Snapshot {
	w.Helper()
	for range 60 {
		start := time.Now()
		b, err := w.service.CreateSnapshot(w.Context(), req)
		if err != nil {
			w.Fatal(err)
		}
		if took := time.Since(start); took > 3*time.Second {
			w.Fatalf("a call took %v", took)
		}
		if b.Ready {
			return b
		}
		time.Sleep(time.Second)
	}
	w.Fatal("the backup is never ready")
	return nil
}

func TestSnapshotsAreMadeFoundAndDeleted(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1", SizeGiB: 2})
		w.attach(v.ID, w.server)
		w.cloud.Requests()
		s := w.snapshot("snap", v.ID)
		if !s.Ready || s.SizeGiB != 2 || s.VolumeID != v.ID || s.Backup {
			t.Fatalf("got %+v", s)
		}
		if got := w.spent("snapshot.get"); got != "snapshot.create:1 snapshot.list:1" {
			t.Fatalf("requests: %s", got)
		}
		if again := w.snapshot("snap", v.ID); again.ID != s.ID {
			t.Fatal("a second snapshot was made")
		}
		other := w.create(volumes.CreateRequest{Name: "pvc-2"})
		_, err := w.service.CreateSnapshot(w.Context(), volumes.SnapshotRequest{Name: "snap", VolumeID: other.ID})
		w.wantError(err, volumes.ErrExists)
		if err := w.service.DeleteSnapshot(w.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{s.ID, uuid.NewString(), "odd"} {
			if err := w.service.DeleteSnapshot(w.Context(), id); err != nil {
				t.Fatalf("deleting %q: %v", id, err)
			}
		}
		_, err = w.service.CreateSnapshot(w.Context(), volumes.SnapshotRequest{Name: "none", VolumeID: uuid.NewString()})
		w.wantError(err, cloud.ErrNotFound)
	})
}

func TestASlowSnapshotIsToldWhenItIsReady(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.cloud.Latency.Snapshot = 45 * time.Second
		_, err := w.service.CreateSnapshot(w.within(time.Minute), volumes.SnapshotRequest{Name: "snap", VolumeID: v.ID})
		w.wantError(err, volumes.ErrUnfinished, "still being made")
		if again := w.snapshot("snap", v.ID); !again.Ready || len(w.cloud.Snapshots()) != 1 {
			t.Fatalf("got %+v of %d", again, len(w.cloud.Snapshots()))
		}
	})
}

func TestASnapshotThatVolumesDependOnIsKeptAndSaidSo(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		s := w.snapshot("snap", v.ID)
		w.create(volumes.CreateRequest{Name: "restored", SnapshotID: s.ID})
		w.wantError(w.service.DeleteSnapshot(w.within(time.Minute), s.ID), volumes.ErrSnapshotInUse, "Snapshot is busy")
	})
}

func TestSnapshotsWithoutAnAnswer(t *testing.T) {
	for _, op := range []string{"snapshot.create", "snapshot.delete"} {
		for name, acted := range map[string]bool{"when Cinder has acted": true, "when Cinder has not acted": false} {
			t.Run(op+" "+name, func(t *testing.T) {
				in(t, func(w *world) {
					v := w.create(volumes.CreateRequest{Name: "pvc-1"})
					req := volumes.SnapshotRequest{Name: "snap", VolumeID: v.ID}
					w.cloud.SetFault(cloudtest.Fault{Op: op, Times: 1, After: acted, Err: unavailable})
					s, err := w.service.CreateSnapshot(w.Context(), req)
					if op == "snapshot.create" && !acted {
						w.wantError(err, volumes.ErrUnfinished)
						s, err = w.service.CreateSnapshot(w.Context(), req)
					}
					if err != nil || len(w.cloud.Snapshots()) != 1 {
						t.Fatalf("%v, %d snapshots", err, len(w.cloud.Snapshots()))
					}
					err = w.service.DeleteSnapshot(w.Context(), s.ID)
					if op == "snapshot.delete" && !acted {
						w.wantError(err, volumes.ErrUnfinished)
						err = w.service.DeleteSnapshot(w.Context(), s.ID)
					}
					if err != nil || len(w.cloud.Snapshots()) != 0 {
						t.Fatalf("%v, %d snapshots are left", err, len(w.cloud.Snapshots()))
					}
				})
			})
		}
	}
}

func TestAFailedSnapshotIsToldAndLeavesNothing(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.cloud.SetFault(cloudtest.Fault{Op: "snapshot.create", Times: 1, Outcome: "error", Cause: "create snapshot:no space"})
		_, err := w.service.CreateSnapshot(w.Context(), volumes.SnapshotRequest{Name: "snap", VolumeID: v.ID})
		w.wantError(err, volumes.ErrUnfinished, "no space")
		if n := len(w.cloud.Snapshots()); n != 0 {
			t.Fatalf("%d snapshots are left", n)
		}
		w.snapshot("snap", v.ID)
	})
}

func TestBackupsAreSnapshotsThatTakeTheirTime(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1", SizeGiB: 2})
		w.attach(v.ID, w.server)
		req := volumes.SnapshotRequest{Name: "backup", VolumeID: v.ID, Backup: true}
		first, err := w.service.CreateSnapshot(w.Context(), req)
		if err != nil || first.Ready || !first.Backup || first.SizeGiB != 2 {
			t.Fatalf("got %+v, %v", first, err)
		}
		if listed := w.list(v.ID); len(listed) != 1 || listed[0].ID != first.ID {
			t.Fatalf("the list shows %+v", listed)
		}
		b := w.backup(req)
		if b.ID != first.ID {
			t.Fatal("a second backup was made")
		}
		if n := len(w.cloud.Snapshots()); n != 0 {
			t.Fatalf("%d temporary snapshots are left", n)
		}
		if got, err := w.service.GetSnapshot(w.Context(), b.ID); err != nil || !got.Ready {
			t.Fatalf("got %+v, %v", got, err)
		}
		if err := w.service.DeleteSnapshot(w.Context(), b.ID); err != nil {
			t.Fatal(err)
		}
		if n := len(w.cloud.Backups()); n != 0 {
			t.Fatalf("%d backups are left", n)
		}
	})
}

func TestDeletingABackupNeverSucceedsBecauseALookUpFailed(t *testing.T) {
	for _, op := range []string{"snapshot.delete", "backup.get", "backup.delete"} {
		t.Run(op, func(t *testing.T) {
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				b := w.backup(volumes.SnapshotRequest{Name: "backup", VolumeID: v.ID, Backup: true})
				w.cloud.SetFault(cloudtest.Fault{Op: op, Times: 1, Err: unavailable})
				err := w.service.DeleteSnapshot(w.Context(), b.ID)
				if left := len(w.cloud.Backups()); (err == nil) != (left == 0) {
					t.Fatalf("%v, but %d backups are left", err, left)
				}
				if err := w.service.DeleteSnapshot(w.Context(), b.ID); err != nil {
					t.Fatal(err)
				}
				if left := len(w.cloud.Backups()); left != 0 {
					t.Fatalf("%d backups are left", left)
				}
			})
		})
	}
}

func TestAnUnfinishedBackupLeavesNoSnapshotWhenItIsDeleted(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		b, err := w.service.CreateSnapshot(w.Context(), volumes.SnapshotRequest{Name: "backup", VolumeID: v.ID, Backup: true})
		if err != nil {
			t.Fatal(err)
		}
		w.wantError(w.service.DeleteSnapshot(w.Context(), b.ID), volumes.ErrUnfinished)
		time.Sleep(time.Minute)
		if err := w.service.DeleteSnapshot(w.Context(), b.ID); err != nil {
			t.Fatal(err)
		}
		if n := len(w.cloud.Snapshots()) + len(w.cloud.Backups()); n != 0 {
			t.Fatalf("%d things are left", n)
		}
	})
}

// The call that deletes a backup may end at any moment, and the next one finds the backup
// gone: nothing leads to its temporary snapshot then.
func TestADeletionOfABackupThatIsCutOffLeavesNoSnapshot(t *testing.T) {
	for name, fault := range map[string]cloudtest.Fault{
		"while the backup is deleted": {Op: "backup.delete", Times: 1, Delay: time.Minute, After: true, Err: unavailable},
		"before the snapshot is read": {Op: "snapshot.get", Times: 1, Err: unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				b, err := w.service.CreateSnapshot(w.Context(), volumes.SnapshotRequest{Name: "backup", VolumeID: v.ID, Backup: true})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				w.cloud.SetFault(fault)
				if err := w.service.DeleteSnapshot(w.within(10*time.Second), b.ID); err == nil {
					t.Fatal("it was not cut off")
				}
				w.cloud.ClearFaults()
				time.Sleep(2 * time.Minute)
				if err := w.service.DeleteSnapshot(w.within(time.Minute), b.ID); err != nil {
					t.Fatal(err)
				}
				if n, m := len(w.cloud.Snapshots()), len(w.cloud.Backups()); n+m != 0 {
					t.Errorf("%d snapshots and %d backups are left", n, m)
				}
			})
		})
	}
}

func TestABackupThatIsReadyBeforeItsAnswerIsKnownLeavesNothingElse(t *testing.T) {
	in(t, func(w *world) {
		w.cloud.Latency.Backup = time.Millisecond
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.cloud.SetFault(cloudtest.Fault{Op: "backup.create", Times: 1, After: true, Delay: time.Second, Err: unavailable})
		b, err := w.service.CreateSnapshot(w.within(time.Minute), volumes.SnapshotRequest{Name: "snap", VolumeID: v.ID, Backup: true})
		if err != nil || !b.Ready {
			t.Fatalf("got %+v, %v", b, err)
		}
		if n := len(w.cloud.Snapshots()); n != 0 || len(w.cloud.Backups()) != 1 {
			t.Fatalf("%d snapshots and %d backups are left", n, len(w.cloud.Backups()))
		}
	})
}

func TestSnapshotsAndBackupsAreListedPageByPage(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		want := make(map[string]bool)
		for _, name := range []string{"a", "b", "c"} {
			want[w.snapshot(name, v.ID).ID] = true
		}
		for _, name := range []string{"d", "e"} {
			want[w.backup(volumes.SnapshotRequest{Name: name, VolumeID: v.ID, Backup: true}).ID] = true
		}
		for limit := range 7 {
			seen := make(map[string]bool)
			page := cloud.Page{Limit: limit}
			for {
				some, next, err := w.service.ListSnapshots(w.Context(), "", page)
				if err != nil {
					t.Fatal(err)
				}
				if limit > 0 && len(some) > limit {
					t.Fatalf("%d on a page of %d", len(some), limit)
				}
				for _, one := range some {
					seen[one.ID] = true
				}
				if next.Marker == "" {
					break
				}
				page = next
			}
			if len(seen) != len(want) {
				t.Fatalf("pages of %d show %d, want %d", limit, len(seen), len(want))
			}
		}
	})
}

func (w *world) list(volumeID string) []volumes.Snapshot {
	w.Helper()
	all, _, err := w.service.ListSnapshots(w.Context(), volumeID, cloud.Page{})
	if err != nil {
		w.Fatal(err)
	}
	return all
}

func TestDeletingWhatIsGoneCostsNoQuestions(t *testing.T) {
	in(t, func(w *world) {
		for want, remove := range map[string]func(context.Context, string) error{
			"volume.delete:1":                w.service.Delete,
			"backup.get:1 snapshot.delete:1": w.service.DeleteSnapshot,
		} {
			if err := remove(w.Context(), uuid.NewString()); err != nil {
				t.Error(err)
			}
			if got := w.spent(); got != want {
				t.Errorf("requests %s, want %s", got, want)
			}
		}
	})
}
