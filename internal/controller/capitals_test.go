package controller_test

import (
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// A handle that somebody wrote in capitals is the same volume, also where many
// are asked for at once: what is not in a list passes for gone.
func TestAHandleMayBeWrittenInCapitals(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	id := strings.ToUpper(w.create(request("pvc-1", 1)).GetVolumeId())
	w.publish(id, "one")
	if _, err := w.ControllerExpandVolume(w.within(time.Minute), expandRequest(id, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ControllerModifyVolume(w.within(time.Minute), modifyRequest(id, "metadata/owner", "team a")); err != nil {
		t.Fatal(err)
	}
	snapshot := strings.ToUpper(w.snapshot("snap", id).GetSnapshotId())
	for what, source := range map[string]*csi.VolumeContentSource{
		"clone":    {Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}},
		"restored": {Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapshot}}},
	} {
		req := request(what, 2)
		req.VolumeContentSource = source
		if first, again := w.create(req), w.create(req); first.GetVolumeId() != again.GetVolumeId() {
			t.Errorf("%s was made twice", what)
		}
	}
	listed, err := w.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{SourceVolumeId: id, SnapshotId: snapshot})
	if err != nil || len(listed.GetEntries()) != 1 {
		t.Errorf("got %v, %v", listed, err)
	}
	if _, err := w.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: id}); err != nil {
		t.Error(err)
	}
	if _, err := w.DeleteSnapshot(w.within(time.Minute), &csi.DeleteSnapshotRequest{SnapshotId: snapshot}); err != nil {
		t.Fatal(err)
	}
	w.unpublish(id, "one")
	if got := w.attachments("pvc-1"); got != 0 {
		t.Errorf("%d attachments", got)
	}
	w.remove(id)
	if d := w.dump(); len(d.Snapshots) != 0 || len(d.Volumes) != 2 {
		t.Errorf("%d snapshots and %d volumes are left", len(d.Snapshots), len(d.Volumes))
	}
}
