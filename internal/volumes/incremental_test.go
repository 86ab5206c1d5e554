package volumes_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// parent returns the id of the backup on which another builds.
func (r *remote) parent(id string) string {
	r.Helper()
	for _, b := range r.dump().Backups {
		if b.ID == id {
			return b.ParentID
		}
	}
	r.Fatalf("backup %s is gone", id)
	return ""
}

func TestAnIncrementalBackupBuildsOnTheNewestOne(t *testing.T) {
	r := overHTTP(t, volumes.Options{})
	v := r.create(volumes.CreateRequest{Name: "pvc-1"})
	ask := func(name string) *volumes.Snapshot {
		return r.backup(volumes.SnapshotRequest{Name: name, VolumeID: v.ID, Incremental: true})
	}
	full := ask("monday")
	second := ask("tuesday")
	if again := ask("tuesday"); again.ID != second.ID {
		t.Error("repeated, it makes another")
	}
	third := r.backup(volumes.SnapshotRequest{Name: "wednesday", VolumeID: v.ID})
	fourth := ask("thursday")
	for id, want := range map[string]string{full.ID: "", second.ID: full.ID, third.ID: "", fourth.ID: third.ID} {
		if got := r.parent(id); got != want {
			t.Errorf("backup %s builds on %q, want %q", id, got, want)
		}
	}
	if d := r.dump(); len(d.Backups) != 4 || len(d.Snapshots) != 0 {
		t.Errorf("%d backups and %d snapshots are there", len(d.Backups), len(d.Snapshots))
	}

	// What others build on is kept, and deleted after them.
	err := r.DeleteSnapshot(r.within(time.Minute), full.ID)
	if !errors.Is(err, volumes.ErrSnapshotInUse) || !strings.Contains(err.Error(), "incremental backups") {
		t.Errorf("got %v", err)
	}
	for _, id := range []string{second.ID, full.ID, fourth.ID, third.ID} {
		if err := r.DeleteSnapshot(r.within(time.Minute), id); err != nil {
			t.Error(err)
		}
	}
	if left := r.dump().Backups; len(left) != 0 {
		t.Errorf("%d backups are left", len(left))
	}
}

func TestAnIncrementalBackupWithoutOneToBuildOn(t *testing.T) {
	for name, test := range map[string]struct {
		// fault is what happens to the backup before.
		fault admin.Fault
		want  error
	}{
		"one that failed: a full one is made":      {fault: admin.Fault{Operation: "backup.create", EndIn: "error"}},
		"one that is being made: it is waited for": {fault: admin.Fault{Operation: "backup.create", Stuck: true}, want: volumes.ErrUnfinished},
	} {
		t.Run(name, func(t *testing.T) {
			r := overHTTP(t, volumes.Options{})
			v := r.create(volumes.CreateRequest{Name: "pvc-1"})
			r.faults(test.fault)
			if _, err := r.CreateSnapshot(r.within(time.Minute), volumes.SnapshotRequest{Name: "before", VolumeID: v.ID, Backup: true}); err != nil {
				t.Fatal(err)
			}
			if test.want == nil {
				r.faults()
				r.until(func(d admin.Dump) bool { return d.Backups[0].Status == "error" })
			}
			req := volumes.SnapshotRequest{Name: "after", VolumeID: v.ID, Backup: true, Incremental: true}
			if _, err := r.CreateSnapshot(r.within(time.Minute), req); !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			r.faults()
			for len(r.dump().Backups) < 2 {
				if _, err := r.CreateSnapshot(r.within(time.Minute), req); err != nil && !errors.Is(err, volumes.ErrUnfinished) {
					t.Fatal(err)
				}
			}
			if b := r.backup(req); (r.parent(b.ID) == "") != (test.want == nil) {
				t.Errorf("it builds on %q", r.parent(b.ID))
			}
		})
	}
}

func TestAnIncrementalBackupThatIsRefusedForAnotherReason(t *testing.T) {
	r := overHTTP(t, volumes.Options{})
	v := r.create(volumes.CreateRequest{Name: "pvc-1"})
	r.backup(volumes.SnapshotRequest{Name: "before", VolumeID: v.ID})
	r.faults(admin.Fault{Operation: "backup.create", Before: http.StatusBadRequest, Body: `{"badRequest":{"message":"no","code":400}}`})
	_, err := r.CreateSnapshot(r.within(time.Minute), volumes.SnapshotRequest{Name: "after", VolumeID: v.ID, Backup: true, Incremental: true})
	if !errors.Is(err, cloud.ErrInvalid) || errors.Is(err, volumes.ErrUnfinished) {
		t.Errorf("got %v", err)
	}
	if d := r.dump(); len(d.Backups) != 1 || len(d.Snapshots) != 0 {
		t.Errorf("%d backups and %d snapshots are there", len(d.Backups), len(d.Snapshots))
	}
}
