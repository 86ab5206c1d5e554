package driver

import (
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// TestLives takes volumes through all that a cluster does with them, for each
// way of logging in.
func TestLives(t *testing.T) {
	for _, conf := range []string{"cloud.conf", "credential.conf", "clouds.conf"} {
		t.Run(conf, func(t *testing.T) {
			r := start(t, conf)
			var id string
			steps := []struct {
				name, state string
				size        int
				do          func()
			}{
				{"create", "available/0", 1, func() { id = r.create(request("life-" + conf)) }},
				{"attach to node1", "in-use/1", 1, func() { r.attach(id, "node1", false) }},
				{"attach again", "in-use/1", 1, func() { r.attach(id, "node1", false) }},
				{"extend in use", "in-use/1", 2, func() { r.must(insist(func() error { return r.expand(t.Context(), id, 2*gib) })) }},
				{"detach", "available/0", 2, func() { r.detach(id, "node1") }},
				{"attach to node2", "in-use/1", 2, func() { r.attach(id, "node2", false) }},
				{"detach from it", "available/0", 2, func() { r.detach(id, "node2") }},
				{"detach again", "available/0", 2, func() { r.detach(id, "node2") }},
				{"extend", "available/0", 3, func() { r.must(insist(func() error { return r.expand(t.Context(), id, 3*gib) })) }},
				{"delete", "gone", 0, func() { r.must(insist(func() error { return r.deleteOnce(t.Context(), id) })) }},
			}
			for _, step := range steps {
				began := time.Now()
				step.do()
				t.Logf("%-16s %5.2f s", step.name, time.Since(began).Seconds())
				r.is(id, step.state, step.size)
			}
		})
	}
}

func TestCopies(t *testing.T) {
	r := start(t, "cloud.conf")
	id := r.create(request("copies"))
	r.attach(id, "node1", false)
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
	r.must(insist(func() error { return change("fast") }))
	if _, _, kind := r.seen(id); kind != "fast" {
		t.Errorf("the volume's type is %s, want fast", kind)
	}
	// The back end of that type is another, and moving is not asked for.
	if err := insist(func() error { return change("nfs") }); err == nil {
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
	r.attach(id, "node1", true)
	r.attach(id, "node2", true)
	r.is(id, "in-use/2", 1)
	r.detach(id, "node1")
	r.is(id, "in-use/1", 1)
	r.detach(id, "node2")
	r.is(id, "available/0", 1)
}

func TestZones(t *testing.T) {
	r := start(t, "cloud.conf")
	for _, zone := range []string{"nova", "az2"} {
		req := request("zone-" + zone)
		req.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{{Segments: map[string]string{"topology.cinder.csi.openstack.org/zone": zone}}}}
		r.create(req)
		got, err := r.CreateVolume(t.Context(), req) // which finds it
		r.must(err)
		segments := got.GetVolume().GetAccessibleTopology()
		if len(segments) != 1 || segments[0].GetSegments()["topology.cinder.csi.openstack.org/zone"] != zone {
			t.Errorf("a volume for zone %s is accessible from %v", zone, segments)
		}
	}
}
