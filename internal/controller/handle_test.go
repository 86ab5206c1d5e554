package controller_test

import (
	"context"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/controller/controllertest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/openstack/openstacktest"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// slowly is a cloud whose snapshots and backups take their time, and a service
// that is not willing to wait for them.
func slowly(t *testing.T) *world {
	t.Helper()
	model := devcloud.Fast()
	model.Steps["snapshot.creating"] = latency.Distribution{Min: 500 * time.Millisecond}
	model.Steps["backup.creating"] = latency.Distribution{Min: 500 * time.Millisecond}
	w := newWorld(t, model)
	service := volumes.New(w.client, volumes.Options{Cluster: "test", SnapshotWait: 50 * time.Millisecond})
	w.Server = controller.New(controller.Config{Source: controllertest.Clouds{"": service}})
	return w
}

// untilFinal repeats a call as the snapshotter does: until it succeeds, or fails
// for good. It returns the first and the last snapshot that it was given, since
// the snapshotter keeps the id of the first.
func (w *world) untilFinal(req *csi.CreateSnapshotRequest) (first, last *csi.Snapshot, err error) {
	w.Helper()
	for range 100 {
		ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
		resp, err := w.CreateSnapshot(ctx, req)
		cancel()
		switch code := status.Code(err); code {
		case codes.OK:
			if first == nil {
				first = resp.GetSnapshot()
			}
			if last = resp.GetSnapshot(); last.GetReadyToUse() {
				return first, last, nil
			}
		case codes.Aborted, codes.Unavailable, codes.DeadlineExceeded:
		default:
			return first, last, err
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.Fatal("it never ends")
	return nil, nil, nil
}

// The snapshotter keeps the first id that it hears. Were another snapshot made
// in the place of one that failed, it would say of the first that it is ready.
func TestASnapshotThatFailsIsNeverReplacedUnderAnIdThatWasGiven(t *testing.T) {
	for kind, operation := range map[string]string{"snapshot": "snapshot.create", "backup": "backup.create"} {
		t.Run(kind, func(t *testing.T) {
			w := slowly(t)
			v := w.create(request("pvc-1", 1)).GetVolumeId()
			w.faults(admin.Fault{Operation: operation, Times: 1, EndIn: "error"})
			first, last, err := w.untilFinal(&csi.CreateSnapshotRequest{Name: "snap", SourceVolumeId: v, Parameters: map[string]string{"type": kind}})
			if first != nil && last.GetSnapshotId() != first.GetSnapshotId() {
				t.Fatalf("%s was given first, and %s at last", first.GetSnapshotId(), last.GetSnapshotId())
			}
			if kind == "snapshot" {
				// It was never told, so that it may be made anew.
				if err != nil || !first.GetReadyToUse() || len(w.dump().Snapshots) != 1 {
					t.Fatalf("got %v, %v, and %d are left", first, err, len(w.dump().Snapshots))
				}
				return
			}
			wantCode(t, err, codes.FailedPrecondition, first.GetSnapshotId(), "failed")
			if n := len(w.dump().Snapshots); n != 0 {
				t.Errorf("%d temporary snapshots are left", n)
			}
			if _, err := w.DeleteSnapshot(w.within(time.Minute), &csi.DeleteSnapshotRequest{SnapshotId: first.GetSnapshotId()}); err != nil {
				t.Fatal(err)
			}
			if n := len(w.dump().Backups); n != 0 {
				t.Errorf("%d backups are left", n)
			}
			w.remove(v)
		})
	}
}

func TestABackupIsAsOldAsItsContent(t *testing.T) {
	w := slowly(t)
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	began := time.Now()
	first, _, err := w.untilFinal(&csi.CreateSnapshotRequest{Name: "snap", SourceVolumeId: v, Parameters: map[string]string{"type": "backup"}})
	if err != nil {
		t.Fatal(err)
	}
	if at := first.GetCreationTime().AsTime(); at.Before(began.Add(-time.Minute)) || at.After(time.Now().Add(time.Minute)) {
		t.Errorf("created at %v", at)
	}
}

// A class that was changed while a snapshot is made asks for something else
// under the same name.
func TestASnapshotAndABackupAreNotTakenForEachOther(t *testing.T) {
	w := slowly(t)
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	ask := func(name, kind string) error {
		_, err := w.CreateSnapshot(w.within(time.Minute), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: v, Parameters: map[string]string{"type": kind}})
		return err
	}
	wantCode(t, ask("first", "backup"), codes.Aborted) // its temporary snapshot is being made
	wantCode(t, ask("first", "snapshot"), codes.AlreadyExists, "backup")
	if _, _, err := w.untilFinal(&csi.CreateSnapshotRequest{Name: "second", SourceVolumeId: v}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, ask("second", "backup"), codes.AlreadyExists, "snapshot")
	if n := len(w.dump().Backups); n != 0 {
		t.Errorf("%d backups were made", n)
	}
}

// Metadata of a backup is shown from microversion 3.43 on.
func TestABackupIsMadeOnceOnEveryCloud(t *testing.T) {
	for name, arrange := range map[string]func(w *world){
		"whose microversions are passed over": func(w *world) {
			w.client = openstacktest.Connect(w.T, w.cloud.CloudConf(), openstack.Options{IgnoreVolumeMicroversion: true})
		},
		"that has none":                func(w *world) { w.olderThan("3.0") },
		"that is too old for metadata": func(w *world) { w.olderThan("3.42") },
		"that is just new enough":      func(w *world) { w.olderThan("3.43") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, devcloud.Fast())
			v := w.create(request("pvc-1", 1)).GetVolumeId()
			arrange(w)
			service := volumes.New(w.client, volumes.Options{Cluster: "test"})
			w.Server = controller.New(controller.Config{Source: controllertest.Clouds{"": service}})
			req := &csi.CreateSnapshotRequest{Name: "snap", SourceVolumeId: v, Parameters: map[string]string{"type": "backup"}}
			for range 5 {
				resp, err := w.CreateSnapshot(w.within(time.Minute), req)
				if status.Code(err) == codes.FailedPrecondition {
					break // told that it can't be done
				}
				if err != nil && status.Code(err) != codes.Aborted {
					t.Fatal(err)
				}
				if resp.GetSnapshot().GetReadyToUse() {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if d := w.dump(); len(d.Backups) > 1 || len(d.Snapshots) > 0 {
				t.Errorf("%d backups and %d snapshots", len(d.Backups), len(d.Snapshots))
			}
		})
	}
}

// olderThan logs in to the cloud as one whose Cinder has no newer microversion.
func (w *world) olderThan(version string) {
	w.Helper()
	if err := w.admin.SetBehaviour(w.Context(), admin.Behaviour{VolumeVersion: version}); err != nil {
		w.Fatal(err)
	}
	w.client = connect(w.T, w.cloud)
}
