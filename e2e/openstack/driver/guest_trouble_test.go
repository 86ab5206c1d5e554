package driver

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// bootGuest boots one more guest for this test, and returns its node.
func (r *rig) bootGuest(name, like, zone string) *node {
	r.Helper()
	got, err := r.member.Compute(r.Context(), "93", http.MethodPost, "/servers", map[string]any{"server": map[string]any{
		"name": name, "availability_zone": zone, "imageRef": r.cloud.GuestImages[like], "flavorRef": r.cloud.GuestFlavor,
		"networks": "none", "config_drive": true,
	}})
	r.must(err)
	var made struct{ Server struct{ ID string } }
	r.must(got.Into(&made))
	r.Cleanup(func() {
		_, _ = r.member.Compute(context.Background(), "60", http.MethodDelete, "/servers/"+made.Server.ID, nil) // the test may have deleted it
	})
	return r.node(name, made.Server.ID)
}

// action asks Nova to do something with a server.
func (r *rig) action(id, what string) {
	r.Helper()
	got, err := r.member.Compute(context.Background(), "60", http.MethodPost, "/servers/"+id+"/action", map[string]any{what: nil})
	r.must(err)
	r.must(got.Into(nil))
}

// server waits until Nova says that a server is in a status.
func (r *rig) server(id, status string) {
	r.Helper()
	var answer struct{ Server struct{ Status string } }
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		got, err := r.member.Compute(context.Background(), "60", http.MethodGet, "/servers/"+id, nil)
		r.must(err)
		r.must(got.Into(&answer))
		if answer.Server.Status == status {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("server %s is %s, want %s", id, answer.Server.Status, status)
		}
	}
}

// TestGuestDeletedWhileAttached: the pods' data is on the volume, which moves to
// another guest.
func TestGuestDeletedWhileAttached(t *testing.T) {
	r, one, _ := withGuests(t)
	short := r.bootGuest("guest-short", "guest1", "nova")
	id := r.create(request("guest-gone"))
	lost := short.mounted(id, mountMode("ext4"))
	sum := lost.write("kept", 4)
	lost.undo = lost.undo[:1] // nothing can be undone in it any more
	got, err := r.member.Compute(t.Context(), "60", http.MethodDelete, "/servers/"+short.guest.ID, nil)
	r.must(err)
	r.must(got.Into(nil))
	lost.leave()
	d := one.mounted(id, mountMode("ext4"))
	d.holds("kept", sum)
	d.leave()
}

// TestGuestIgnoresTheUnplug is a guest that does not run when it is asked for
// the disk: Nova asks a few times and gives up. The driver must not say that the
// volume is free before it is; when the guest runs again, it becomes free.
func TestGuestIgnoresTheUnplug(t *testing.T) {
	r, one, two := withGuests(t)
	id := r.create(request("unplug"))
	d := one.mounted(id, mountMode("ext4"))
	sum := d.write("kept", 4)
	detach := d.undo[0]
	d.undo = d.undo[1:]
	d.leave() // all but the detachment
	d.undo = []func(context.Context) error{detach}
	r.action(one.guest.ID, "pause")
	resume := sync1(func() { r.action(one.guest.ID, "unpause") })
	t.Cleanup(resume)
	r.server(one.guest.ID, "PAUSED")
	// Longer than Nova tries.
	ctx, cancel := context.WithTimeout(t.Context(), slow)
	defer cancel()
	began := time.Now()
	err := r.unpublish(ctx, id, "guest1")
	t.Logf("after %.1f s the driver says: %v", time.Since(began).Seconds(), err)
	r.refused(err, codes.Aborted, "did not let go of it") // which the attacher takes for "ask again"
	r.is(id, "in-use/1", 1)
	short, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.publish(short, id, "guest2", false); err == nil {
		t.Error("the volume is attached to another server, while the guest has the disk")
	}
	resume()
	r.server(one.guest.ID, "ACTIVE")
	began = time.Now()
	d.leave()
	r.is(id, "available/0", 1)
	t.Logf("| guest that ignores the unplug: free %.1f s after it runs again", time.Since(began).Seconds())
	moved := two.mounted(id, mountMode("ext4"))
	moved.holds("kept", sum)
	moved.leave()
}

// sync1 returns a function that does something the first time only.
func sync1(do func()) func() {
	done := false
	return func() {
		if !done {
			done = true
			do()
		}
	}
}

// TestGuestLosesAMountedDisk is a volume that is detached while a pod still has
// it, as after a node was taken for dead: what is left on the node is cleared
// away, and the volume can be used there again.
func TestGuestLosesAMountedDisk(t *testing.T) {
	r, one, two := withGuests(t)
	for _, n := range []*node{one, two} { // virtio's block devices and SCSI
		id := r.create(request("torn-" + n.name))
		d := n.mounted(id, mountMode("ext4"))
		sum := d.write("kept", 4)
		r.again("detach", func(ctx context.Context) error { return r.unpublish(ctx, id, n.name) })
		r.is(id, "available/0", 1)
		d.leave() // on the node nothing has happened so far
		if left := n.sh(`findmnt -rno TARGET | grep -F "$1" || true`, id); left != "" {
			t.Errorf("%s: what is left is mounted: %s", n.name, left)
		}
		again := n.mounted(id, mountMode("ext4"))
		again.holds("kept", sum)
		again.leave()
	}
}

// TestGuestNodeHasNoSuchVolume: a node says of a volume that is not attached
// what is wrong, within the caller's time.
func TestGuestNodeHasNoSuchVolume(t *testing.T) {
	r, one, _ := withGuests(t)
	id := r.create(request("elsewhere"))
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	_, err := one.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: "/var/lib/kubelet/none", VolumeCapability: mountMode("ext4"),
	})
	if err == nil || !strings.Contains(err.Error(), id) {
		t.Errorf("got %v, want an error that names the volume", err)
	}
}
