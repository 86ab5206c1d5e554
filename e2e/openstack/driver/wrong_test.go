package driver

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack"
)

// TestSnapshotThatACloneHangsOn is Ceph's: Cinder accepts the deletion, and
// quietly puts the snapshot back.
func TestSnapshotThatACloneHangsOn(t *testing.T) {
	r := start(t, "cloud.conf")
	snapshot := r.snapshot("busy-snapshot", r.create(request("busy")), nil)
	req := request("busy-clone")
	req.VolumeContentSource = fromSnapshot(snapshot)
	clone := r.create(req)
	remove := func(ctx context.Context) error {
		_, err := r.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: snapshot})
		return err
	}
	r.refused(remove(t.Context()), codes.FailedPrecondition, "snapshot is busy")
	r.must(insist(func() error { return r.deleteOnce(t.Context(), clone) }))
	r.must(insist(func() error { return remove(t.Context()) }))
}

// TestAttachmentThatVanishes: Nova says 200, the back end can't serve the
// volume, and all is as before. Nobody says so but the server's action list.
func TestAttachmentThatVanishes(t *testing.T) {
	r := start(t, "cloud.conf")
	req := request("vanishing")
	req.Parameters["type"] = "nfs"
	id := r.create(req)
	file := filepath.Join(stack.Dir(), "state/nfs/export/volume-"+id)
	r.must(os.Rename(file, file+".away"))
	err := r.publish(t.Context(), id, "node1", false)
	r.must(os.Rename(file+".away", file))
	t.Logf("the driver says: %v", err)
	r.refused(err, codes.Aborted, "server event list") // which the attacher takes for "ask again"
	r.is(id, "available/0", 1)
	got, askErr := r.member.Compute(t.Context(), "60", http.MethodGet, "/servers/"+r.cloud.Servers["node1"]+"/os-instance-actions", nil)
	r.must(askErr)
	var actions struct {
		Actions []struct{ Action, Message string } `json:"instanceActions"`
	}
	r.must(got.Into(&actions))
	if len(actions.Actions) == 0 || actions.Actions[0].Action != "attach_volume" || actions.Actions[0].Message != "Error" {
		t.Errorf("the server's newest action is %+v, want attach_volume with Error", actions.Actions)
	}
	r.again("attach again", func(ctx context.Context) error { return r.publish(ctx, id, "node1", false) })
	r.is(id, "in-use/1", 1)
	r.detach(id, "node1")
}

// TestDeletedRightAfterItsCreation: what Cinder accepts to delete before it has
// chosen a back end is made by the back end all the same. The driver never asks
// for that of its own accord, and what others ask for ends as they wish.
func TestDeletedRightAfterItsCreation(t *testing.T) {
	const tries = 10
	r := start(t, "cloud.conf")
	before := r.images()
	for range tries {
		got, err := r.member.Volume(t.Context(), "66", http.MethodPost, "/volumes", map[string]any{"volume": map[string]any{"size": 1, "name": "early", "volume_type": "standard"}})
		r.must(err)
		var made struct{ Volume struct{ ID string } }
		r.must(got.Into(&made))
		r.again("delete", func(ctx context.Context) error { return r.deleteOnce(ctx, made.Volume.ID) })
		r.is(made.Volume.ID, "gone", 0)
	}
	left := r.orphans(before)
	t.Logf("Cinder left %d of %d volumes on its back end that were deleted at once", len(left), tries)
	for _, image := range left {
		r.rbd("rm", "--no-progress", "volumes1/"+image)
	}
	// The driver takes a volume back whose type can't serve several servers.
	for range tries {
		req := request("several")
		req.Parameters["type"] = "standard"
		req.VolumeCapabilities = []*csi.VolumeCapability{mode(true)}
		r.refused(insist(func() error { return r.createOnce(t.Context(), req) }), codes.InvalidArgument, "multiattach")
	}
	if left := r.orphans(before); len(left) > 0 {
		t.Errorf("%d of %d volumes that the driver took back are still on the back end: %v", len(left), tries, left)
	}
	if n := r.count("volumes", "several"); n != 0 {
		t.Errorf("%d volumes are left", n)
	}
}

// images are what the back end of the zone nova holds.
func (r *rig) images() []string {
	r.Helper()
	return strings.Fields(r.rbd("ls", "volumes1"))
}

// orphans are the images that have come since, when nothing comes or goes any
// more: two listings are equal.
func (r *rig) orphans(before []string) []string {
	r.Helper()
	const pause = 3 * time.Second
	var now []string
	for deadline := time.Now().Add(patience); ; {
		last := r.images()
		time.Sleep(pause)
		if now = r.images(); slices.Equal(now, last) {
			break
		}
		if time.Now().After(deadline) {
			r.Fatalf("the back end's images still come and go after %s: %v", patience, now)
		}
	}
	return slices.DeleteFunc(now, func(image string) bool { return slices.Contains(before, image) })
}

func (r *rig) rbd(args ...string) string {
	r.Helper()
	out, err := exec.Command("rbd", append([]string{"-c", filepath.Join(stack.Dir(), "conf/ceph/ceph.conf")}, args...)...).Output()
	if err != nil {
		r.Fatalf("rbd %q: %v", args, err)
	}
	return string(out)
}

// TestAttachmentThatNovaDoesNotKnow: Cinder has reserved the volume for a
// server, as it stays when nova-compute dies at the wrong moment. The driver has
// it forgotten, whichever way it is logged in.
func TestAttachmentThatNovaDoesNotKnow(t *testing.T) {
	for _, conf := range []string{"cloud.conf", "credential.conf"} {
		t.Run(conf, func(t *testing.T) {
			r := start(t, conf)
			id := r.create(request("stale-" + conf))
			server := r.cloud.Servers["node1"]
			got, err := r.member.Volume(t.Context(), "66", http.MethodPost, "/attachments", map[string]any{"attachment": map[string]any{"volume_uuid": id, "instance_uuid": server}})
			r.must(err)
			var made struct{ Attachment struct{ ID string } }
			r.must(got.Into(&made))
			r.detach(id, "node1")
			r.is(id, "available/0", 1)
			r.attach(id, "node2", false)
			r.detach(id, "node2")
		})
	}
}

// TestCopiesAreMadeInTheirSourcesZone: Cinder refuses a copy in another zone,
// in words that the driver has to understand.
func TestCopiesAreMadeInTheirSourcesZone(t *testing.T) {
	const label = "topology.cinder.csi.openstack.org/zone"
	r := start(t, "cloud.conf")
	id := r.create(request("zoned"))
	snapshot := r.snapshot("zoned-snapshot", id, nil)
	in := func(zones ...string) *csi.TopologyRequirement {
		req := &csi.TopologyRequirement{}
		for _, zone := range zones {
			req.Requisite = append(req.Requisite, &csi.Topology{Segments: map[string]string{label: zone}})
		}
		req.Preferred = req.Requisite
		return req
	}
	for name, source := range map[string]*csi.VolumeContentSource{"snapshot": fromSnapshot(snapshot), "volume": fromVolume(id)} {
		req := request("zoned-of-" + name)
		req.VolumeContentSource = source
		// The scheduler has put the pod where the source isn't: another node is
		// to be found.
		req.AccessibilityRequirements = in("az2")
		r.refused(insist(func() error { return r.createOnce(t.Context(), req) }), codes.ResourceExhausted, "is in availability zone nova")
		// Either zone will do, and the other one is liked better.
		req.AccessibilityRequirements = in("az2", "nova")
		r.create(req)
		got, err := r.CreateVolume(t.Context(), req) // which finds it
		r.must(err)
		if zone := got.GetVolume().GetAccessibleTopology()[0].GetSegments()[label]; zone != "nova" {
			t.Errorf("the copy of the %s is in %s", name, zone)
		}
	}
}
