package controller_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

func TestSnapshotsAreMadeListedAndDeleted(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v, other := w.create(request("pvc-1", 2)).GetVolumeId(), w.create(request("pvc-2", 1)).GetVolumeId()
	w.publish(v, "one")
	s := w.snapshot("snap", v)
	if !s.GetReadyToUse() || s.GetSizeBytes() != 2*gib || s.GetSourceVolumeId() != v || s.GetCreationTime().AsTime().IsZero() {
		t.Fatalf("got %v", s)
	}
	if again := w.snapshot("snap", v); again.GetSnapshotId() != s.GetSnapshotId() {
		t.Fatal("a second snapshot was made")
	}
	_, err := w.CreateSnapshot(w.within(time.Minute), &csi.CreateSnapshotRequest{Name: "snap", SourceVolumeId: other})
	wantCode(t, err, codes.AlreadyExists)
	w.snapshot("unrelated", other)

	for name, req := range map[string]*csi.ListSnapshotsRequest{
		"by id":           {SnapshotId: s.GetSnapshotId()},
		"by volume":       {SourceVolumeId: v},
		"by both":         {SnapshotId: s.GetSnapshotId(), SourceVolumeId: v},
		"by id elsewhere": {SnapshotId: s.GetSnapshotId(), Secrets: map[string]string{"cloud": "second"}},
	} {
		resp, err := w.ListSnapshots(t.Context(), req)
		if err != nil || len(resp.GetEntries()) != 1 || resp.GetEntries()[0].GetSnapshot().GetSnapshotId() != s.GetSnapshotId() {
			t.Fatalf("%s: %v, %v", name, resp, err)
		}
	}
	for name, req := range map[string]*csi.ListSnapshotsRequest{
		"by an unknown id":      {SnapshotId: uuid.NewString()},
		"by an odd id":          {SnapshotId: "none-exist-id"},
		"by an unknown volume":  {SourceVolumeId: uuid.NewString()},
		"by an odd volume":      {SourceVolumeId: "odd"},
		"of another volume too": {SnapshotId: s.GetSnapshotId(), SourceVolumeId: other},
	} {
		resp, err := w.ListSnapshots(t.Context(), req)
		if err != nil || len(resp.GetEntries()) != 0 {
			t.Fatalf("%s: %v, %v", name, resp, err)
		}
	}
	if got, err := w.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: s.GetSnapshotId()}); err != nil || !got.GetSnapshot().GetReadyToUse() {
		t.Fatalf("got %v, %v", got, err)
	}
	_, err = w.DeleteVolume(w.within(time.Minute), &csi.DeleteVolumeRequest{VolumeId: other})
	wantCode(t, err, codes.FailedPrecondition, "has snapshots: 1")
	for range 2 {
		if _, err := w.DeleteSnapshot(w.within(time.Minute), &csi.DeleteSnapshotRequest{SnapshotId: s.GetSnapshotId()}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSnapshotRefusals(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	creates := map[string]struct {
		req  *csi.CreateSnapshotRequest
		code codes.Code
	}{
		"no name":         {&csi.CreateSnapshotRequest{SourceVolumeId: v}, codes.InvalidArgument},
		"no volume":       {&csi.CreateSnapshotRequest{Name: "s"}, codes.InvalidArgument},
		"an odd volume":   {&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: "odd"}, codes.NotFound},
		"no such volume":  {&csi.CreateSnapshotRequest{Name: "other", SourceVolumeId: uuid.NewString()}, codes.NotFound},
		"unknown kind":    {&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: v, Parameters: map[string]string{"type": "copy"}}, codes.InvalidArgument},
		"unknown key":     {&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: v, Parameters: map[string]string{"speed": "1"}}, codes.InvalidArgument},
		"unknown cloud":   {&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: v, Secrets: map[string]string{"cloud": "x"}}, codes.InvalidArgument},
		"all known keys":  {&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: v, Parameters: map[string]string{"type": "snapshot", "force-create": "true", "csi.storage.k8s.io/volumesnapshot/name": "n"}}, codes.OK},
		"that once again": {&csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: v}, codes.OK},
	}
	for name, c := range creates {
		t.Run(name, func(t *testing.T) {
			_, err := w.CreateSnapshot(w.within(time.Minute), c.req)
			wantCode(t, err, c.code)
		})
	}
	_, err := w.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{})
	wantCode(t, err, codes.InvalidArgument)
	if _, err := w.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: "reallyfakesnapshotid"}); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"bad", uuid.NewString(), "backup/" + uuid.NewString(), "backup/x", "backup/@1", uuid.NewString() + "@", "@5"} {
		_, err = w.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{StartingToken: token})
		wantCode(t, err, codes.Aborted)
	}
	_, err = w.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{MaxEntries: -1})
	wantCode(t, err, codes.InvalidArgument)
	_, err = w.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{})
	wantCode(t, err, codes.InvalidArgument)
	_, err = w.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: "none-exist-id"})
	wantCode(t, err, codes.NotFound)
}

func TestASnapshotWithClonesIsKept(t *testing.T) {
	w := newWorld(t, devcloud.Fast(), func(c *devcloud.Config, _ *controller.Config) {
		c.Behaviour = &devcloud.Behaviour{ClonesHoldSnapshots: true}
	})
	s := w.snapshot("snap", w.create(request("pvc-1", 1)).GetVolumeId())
	req := request("restored", 1)
	req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.GetSnapshotId()}}}
	restored := w.create(req).GetVolumeId()
	_, err := w.DeleteSnapshot(w.within(time.Minute), &csi.DeleteSnapshotRequest{SnapshotId: s.GetSnapshotId()})
	wantCode(t, err, codes.FailedPrecondition, "busy")
	w.remove(restored)
	if _, err := w.DeleteSnapshot(w.within(time.Minute), &csi.DeleteSnapshotRequest{SnapshotId: s.GetSnapshotId()}); err != nil {
		t.Fatal(err)
	}
}

func TestBackupsAreMadeRestoredAndDeleted(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 2)).GetVolumeId()
	w.publish(v, "one")
	req := &csi.CreateSnapshotRequest{Name: "backup", SourceVolumeId: v, Parameters: map[string]string{"type": "backup", "csi.storage.k8s.io/volumesnapshot/name": "n"}}
	var b *csi.Snapshot
	for b == nil || !b.GetReadyToUse() {
		resp, err := w.CreateSnapshot(w.within(time.Minute), req)
		if err != nil {
			t.Fatal(err)
		}
		b = resp.GetSnapshot()
	}
	if d := w.dump(); len(d.Backups) != 1 || len(d.Snapshots) != 0 || d.Backups[0].Metadata["type"] != "backup" {
		t.Fatalf("the cloud has %+v and %+v", d.Backups, d.Snapshots)
	}
	resp, err := w.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{SnapshotId: b.GetSnapshotId()})
	if err != nil || len(resp.GetEntries()) != 1 || !resp.GetEntries()[0].GetSnapshot().GetReadyToUse() {
		t.Fatalf("got %v, %v", resp, err)
	}
	create := request("restored", 1)
	create.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: b.GetSnapshotId()}}}
	for range 2 {
		if restored := w.create(create); restored.GetCapacityBytes() != 2*gib || restored.GetContentSource() == nil {
			t.Fatalf("got %v", restored)
		}
	}
	if _, err := w.DeleteSnapshot(w.within(time.Minute), &csi.DeleteSnapshotRequest{SnapshotId: b.GetSnapshotId()}); err != nil {
		t.Fatal(err)
	}
	if d := w.dump(); len(d.Backups)+len(d.Snapshots) != 0 {
		t.Fatalf("the cloud has %+v and %+v", d.Backups, d.Snapshots)
	}
}

func TestSnapshotsAreListedPageByPage(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		w.snapshot(name, v)
	}
	first, err := w.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{MaxEntries: 2})
	if err != nil || len(first.GetEntries()) != 2 || first.GetNextToken() == "" {
		t.Fatalf("got %v, %v", first, err)
	}
	rest, err := w.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{StartingToken: first.GetNextToken()})
	if err != nil || len(rest.GetEntries()) != 3 || rest.GetNextToken() != "" {
		t.Fatalf("got %v, %v", rest, err)
	}
}

func TestAListOfSnapshotsGoesOnWhenWhatIsAtItsMarkIsDeleted(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	times := make(map[string]int)
	for i := range 7 {
		times[w.snapshot(fmt.Sprint("snapshot-", i), v).GetSnapshotId()] = 0
	}
	for i := range 7 {
		req := &csi.CreateSnapshotRequest{Name: fmt.Sprint("backup-", i), SourceVolumeId: v, Parameters: map[string]string{"type": "backup"}}
		for ready := false; !ready; {
			resp, err := w.CreateSnapshot(w.within(time.Minute), req)
			if err != nil {
				t.Fatal(err)
			}
			ready = resp.GetSnapshot().GetReadyToUse()
			times[resp.GetSnapshot().GetSnapshotId()] = 0
		}
	}
	req := &csi.ListSnapshotsRequest{MaxEntries: 2}
	for {
		resp, err := w.ListSnapshots(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		entries := resp.GetEntries()
		for _, e := range entries {
			times[e.GetSnapshot().GetSnapshotId()]++
		}
		if req.StartingToken = resp.GetNextToken(); req.StartingToken == "" {
			break
		}
		last := entries[len(entries)-1].GetSnapshot().GetSnapshotId()
		if _, err := w.DeleteSnapshot(w.within(time.Minute), &csi.DeleteSnapshotRequest{SnapshotId: last}); err != nil {
			t.Fatal(err)
		}
	}
	if len(times) != 14 {
		t.Errorf("%d snapshots and backups", len(times))
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("%s was listed %d times", id, n)
		}
	}
}
