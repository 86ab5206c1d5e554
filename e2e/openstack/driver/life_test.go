package driver

import (
	"context"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// TestLives takes volumes through all that a cluster does with them, for each
// way of logging in.
func TestLives(t *testing.T) {
	for _, conf := range []string{"cloud.conf", "credential.conf"} {
		t.Run(conf, func(t *testing.T) {
			r := start(t, conf)
			id := r.create(request("life-" + conf))
			r.is(id, "available/0", 1)
			r.must(r.publish(t.Context(), id, "node1", false))
			r.is(id, "in-use/1", 1)
			r.must(r.publish(t.Context(), id, "node1", false))
			r.must(r.expand(t.Context(), id, 2*gib))
			r.is(id, "in-use/1", 2)
			r.must(r.unpublish(t.Context(), id, "node1"))
			r.is(id, "available/0", 2)
			r.must(r.publish(t.Context(), id, "node2", false))
			r.is(id, "in-use/1", 2)
			r.must(r.unpublish(t.Context(), id, "node2"))
			r.must(r.unpublish(t.Context(), id, "node2"))
			r.must(r.expand(t.Context(), id, 3*gib))
			r.is(id, "available/0", 3)
			_, err := r.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
			r.must(err)
			r.is(id, "gone", 0)
		})
	}
}

func TestCopies(t *testing.T) {
	r := start(t, "cloud.conf")
	id := r.create(request("copies"))
	r.must(r.publish(t.Context(), id, "node1", false))
	snapshot := r.snapshot("copies-snapshot", id, nil)
	backup := r.snapshot("copies-backup", id, map[string]string{"type": "backup"})
	from := func(name string, source *csi.VolumeContentSource) {
		req := request(name)
		req.VolumeContentSource = source
		req.CapacityRange.RequiredBytes = 2 * gib
		made := r.create(req)
		r.is(made, "available/0", 2)
	}
	ofSnapshot := func(id string) *csi.VolumeContentSource {
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
	}
	from("copies-of-snapshot", ofSnapshot(snapshot))
	from("copies-of-backup", ofSnapshot(backup))
	from("copies-of-volume", &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}})
	listed, err := r.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{SourceVolumeId: id})
	r.must(err)
	if len(listed.GetEntries()) != 2 {
		t.Errorf("%d snapshots are listed, want the snapshot and the backup", len(listed.GetEntries()))
	}
}

func TestTypes(t *testing.T) {
	r := start(t, "cloud.conf")
	req := request("types")
	req.Parameters["type"] = "standard"
	id := r.create(req)
	change := func(kind string) error {
		_, err := r.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: map[string]string{"type": kind}})
		return err
	}
	r.must(change("fast"))
	if _, _, kind := r.seen(id); kind != "fast" {
		t.Errorf("the volume's type is %s, want fast", kind)
	}
	// The back end of that type is another, and moving is not asked for.
	if err := change("nfs"); err == nil {
		t.Error("a change of type that would have to move the volume succeeds")
	}
	if state, _, kind := r.seen(id); state != "available/0" || kind != "fast" {
		t.Errorf("the volume is %s and of type %s, want it as it was", state, kind)
	}
}

func TestManyServers(t *testing.T) {
	r := start(t, "cloud.conf")
	req := request("many")
	req.Parameters["type"] = "multiattach"
	req.VolumeCapabilities = []*csi.VolumeCapability{mode(true)}
	id := r.create(req)
	r.must(r.publish(t.Context(), id, "node1", true))
	r.must(r.publish(t.Context(), id, "node2", true))
	r.is(id, "in-use/2", 1)
	r.must(r.unpublish(t.Context(), id, "node1"))
	r.is(id, "in-use/1", 1)
	r.must(r.unpublish(t.Context(), id, "node2"))
	r.is(id, "available/0", 1)
}

func TestZones(t *testing.T) {
	r := start(t, "cloud.conf")
	for _, zone := range []string{"nova", "az2"} {
		req := request("zone-" + zone)
		req.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{{Segments: map[string]string{"topology.cinder.csi.openstack.org/zone": zone}}}}
		got, err := r.CreateVolume(t.Context(), req)
		r.must(err)
		r.create(req)
		segments := got.GetVolume().GetAccessibleTopology()
		if len(segments) != 1 || segments[0].GetSegments()["topology.cinder.csi.openstack.org/zone"] != zone {
			t.Errorf("a volume for zone %s is accessible from %v", zone, segments)
		}
	}
}

// TestRequests holds each operation to its budget: what it costs beside the
// reads that wait.
func TestRequests(t *testing.T) {
	r := start(t, "cloud.conf")
	ctx := context.Background()
	var id string
	for _, op := range []struct {
		name   string
		budget int
		do     func() error
	}{
		{"CreateVolume", 2, func() error { id = r.create(request("requests")); return nil }},
		{"ControllerPublishVolume", 1, func() error { return r.publish(ctx, id, "node1", false) }},
		{"ControllerPublishVolume, already attached", 2, func() error { return r.publish(ctx, id, "node1", false) }},
		{"ControllerExpandVolume", 2, func() error { return r.expand(ctx, id, 2*gib) }},
		{"CreateSnapshot", 2, func() error {
			r.snapshot("requests-snapshot", id, nil)
			return nil
		}},
		{"ControllerUnpublishVolume", 1, func() error { return r.unpublish(ctx, id, "node1") }},
	} {
		before := r.requests()
		r.must(op.do())
		writes, reads := spent(before, r.requests())
		t.Logf("%-45s budget %d, changes %d, reads %d", op.name, op.budget, writes, reads)
		if writes > 1 || op.name == "ControllerPublishVolume, already attached" && writes+reads > op.budget {
			t.Errorf("%s: %d changes and %d reads", op.name, writes, reads)
		}
	}
}

// spent returns the requests between two readings: those that change something
// and those that read.
func spent(before, after map[string]int) (writes, reads int) {
	for name, n := range after {
		switch name {
		case "volume_create", "volume_delete", "volume_attach", "volume_detach", "volume_expand", "volume_retype", "snapshot_create", "snapshot_delete", "backup_create", "backup_delete", "volume_metadata_set":
			writes += n - before[name]
		default:
			reads += n - before[name]
		}
	}
	return writes, reads
}
