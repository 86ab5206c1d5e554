package driver

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest/inside"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack"
)

// slow bounds one call to a guest, which is emulated.
const slow = 2 * time.Minute

// booted boots the guests, once for all tests, and says what it does.
var booted = sync.OnceValue(func() error {
	s, err := stack.New(stack.Dir(), os.Stdout)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	return s.Guests(ctx)
})

// node is a guest, and what a kubelet does there.
type node struct {
	csi.NodeClient

	r     *rig
	guest *guest.Guest
	name  string
}

// withGuests runs the controller, and returns the nodes guest1 and guest2, whose
// servers the controller's helpers know by these names.
func withGuests(t *testing.T) (r *rig, one, two *node) {
	t.Helper()
	r = start(t, "cloud.conf")
	r.must(booted())
	var err error
	r.cloud, err = stack.Load(stack.Dir())
	r.must(err)
	return r, r.node("guest1", r.cloud.Guests["guest1"]), r.node("guest2", r.cloud.Guests["guest2"])
}

// node connects to the node plugin in a server. Its log is shown when the test
// failed.
func (r *rig) node(name, id string) *node {
	r.Helper()
	r.cloud.Servers[name] = id
	n := &node{r: r, guest: r.stack.Guest(id), name: name}
	ctx, cancel := context.WithTimeout(r.Context(), slow)
	defer cancel()
	conn, err := n.guest.CSI(ctx)
	r.must(err)
	n.NodeClient = csi.NewNodeClient(conn)
	since, err := n.guest.Exec(ctx, "stat", "-c", "%s", inside.PluginLog)
	r.must(err)
	r.Cleanup(func() {
		_ = conn.Close()
		if r.Failed() {
			ctx, cancel := context.WithTimeout(context.Background(), slow)
			defer cancel()
			log, err := n.guest.Exec(ctx, "tail", "-c", "+"+strings.TrimSpace(since), inside.PluginLog)
			r.Logf("the log of the node plugin in %s (%v):\n%s", name, err, log)
		}
	})
	return n
}

// run runs a program in the guest and returns what it writes.
func (n *node) run(args ...string) string {
	n.r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), slow)
	defer cancel()
	out, err := n.guest.Exec(ctx, args...)
	n.r.must(err)
	return strings.TrimSpace(out)
}

// sh runs a line of the shell in the guest, with arguments $1, $2 and so on.
func (n *node) sh(line string, args ...string) string {
	n.r.Helper()
	return n.run(append([]string{"sh", "-euc", line, "sh"}, args...)...)
}

// disk is a volume on a node.
type disk struct {
	*node

	id         string
	capability *csi.VolumeCapability
	context    map[string]string
	// What has been done, in order, and is to be undone.
	undo []func(context.Context) error
}

// staging and target are paths as a kubelet has them.
func (d *disk) staging() string {
	return "/var/lib/kubelet/plugins/kubernetes.io/csi/cinder.csi.openstack.org/" + d.id + "/globalmount"
}

func (d *disk) target() string {
	return "/var/lib/kubelet/pods/" + d.id + "/volumes/kubernetes.io~csi/pv/mount"
}

// file is a path in the volume.
func (d *disk) file(name string) string { return d.target() + "/" + name }

// attach attaches a volume to a node. Whatever of it is still there at the end
// of the test is undone.
func (n *node) attach(id string, capability *csi.VolumeCapability) *disk {
	n.r.Helper()
	d := &disk{node: n, id: id, capability: capability}
	n.r.Cleanup(func() {
		if err := d.release(); err != nil {
			n.r.Errorf("volume %s on %s: %v", id, n.name, err)
		}
	})
	d.undo = append(d.undo, func(ctx context.Context) error { return n.r.unpublish(ctx, id, n.name) })
	n.r.again("attach to "+n.name, func(ctx context.Context) error {
		got, err := n.r.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{
			VolumeId: id, NodeId: n.guest.ID, VolumeCapability: capability,
		})
		d.context = got.GetPublishContext()
		return err
	})
	return d
}

// stage makes a volume ready on its node, as a kubelet does for the first pod.
func (d *disk) stage() {
	d.r.Helper()
	d.run("mkdir", "-p", d.staging())
	d.undo = append(d.undo, func(ctx context.Context) error {
		_, err := d.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: d.id, StagingTargetPath: d.staging()})
		return err
	})
	d.r.again("stage on "+d.name, func(ctx context.Context) error {
		_, err := d.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
			VolumeId: d.id, StagingTargetPath: d.staging(), VolumeCapability: d.capability, PublishContext: d.context,
		})
		return err
	})
}

// publish gives the volume to a pod.
func (d *disk) publish() {
	d.r.Helper()
	d.run("mkdir", "-p", strings.TrimSuffix(d.target(), "/mount"))
	d.undo = append(d.undo, func(ctx context.Context) error {
		_, err := d.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: d.id, TargetPath: d.target()})
		return err
	})
	d.r.again("publish on "+d.name, func(ctx context.Context) error {
		_, err := d.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: d.id, StagingTargetPath: d.staging(), TargetPath: d.target(), VolumeCapability: d.capability, PublishContext: d.context,
		})
		return err
	})
}

// release undoes what was done, the newest first. It is nothing the second time.
func (d *disk) release() error {
	for len(d.undo) > 0 {
		last := d.undo[len(d.undo)-1]
		var err error
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Second) {
			ctx, cancel := context.WithTimeout(context.Background(), slow)
			err = last(ctx)
			cancel()
			if err == nil || time.Now().After(deadline) {
				break
			}
		}
		if err != nil {
			return err
		}
		d.undo = d.undo[:len(d.undo)-1]
	}
	return nil
}

// leave is release, in the course of a test.
func (d *disk) leave() {
	d.r.Helper()
	d.r.must(d.release())
}

// mounted attaches, stages and publishes a volume.
func (n *node) mounted(id string, capability *csi.VolumeCapability) *disk {
	n.r.Helper()
	d := n.attach(id, capability)
	d.stage()
	d.publish()
	return d
}

// grow makes the node take notice of the size that a volume has got, as a
// kubelet does: again and again, since the guest's kernel hears of it from Nova,
// by and by. It returns the size that the node tells.
func (d *disk) grow(size int64) int64 {
	d.r.Helper()
	var told int64
	d.r.again("expand on "+d.name, func(ctx context.Context) error {
		got, err := d.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{
			VolumeId: d.id, VolumePath: d.target(), StagingTargetPath: d.staging(), VolumeCapability: d.capability,
			CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		})
		told = got.GetCapacityBytes()
		return err
	})
	return told
}

// write fills a file of the volume and returns its sum.
func (d *disk) write(name string, mib int) string {
	d.r.Helper()
	return d.sh(`dd if=/dev/urandom of="$1" bs=1048576 count="$2" conv=fsync 2>/dev/null; sha256sum <"$1"`, d.file(name), fmt.Sprint(mib))
}

// holds checks a file of the volume, past what the guest remembers of it.
func (d *disk) holds(name, sum string) {
	d.r.Helper()
	if got := d.sh(`echo 3 >/proc/sys/vm/drop_caches; sha256sum <"$1"`, d.file(name)); got != sum {
		d.r.Errorf("%s on %s is %s, want %s", name, d.name, got, sum)
	}
}

// size is that of the disk, as the guest's kernel has it.
func (d *disk) size() string {
	d.r.Helper()
	return d.sh(`lsblk -bndo SIZE "$(findmnt -vno SOURCE "$1")"`, d.target())
}

// mountMode is a volume with a filesystem.
func mountMode(fsType string) *csi.VolumeCapability {
	m := mode(false)
	m.GetMount().FsType = fsType
	return m
}

// TestGuestsKnowThemselves: Nova has told them who and where they are.
func TestGuestsKnowThemselves(t *testing.T) {
	r, one, two := withGuests(t)
	for _, want := range []struct {
		*node
		zone string
	}{{one, "nova"}, {two, "az2"}} {
		var got *csi.NodeGetInfoResponse
		r.again("ask "+want.name+" where it is", func(ctx context.Context) (err error) {
			got, err = want.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
			return err
		})
		if got.GetNodeId() != r.cloud.Guests[want.name] {
			t.Errorf("%s is %s, want %s", want.name, got.GetNodeId(), r.cloud.Guests[want.name])
		}
		if zone := got.GetAccessibleTopology().GetSegments()["topology.cinder.csi.openstack.org/zone"]; zone != want.zone {
			t.Errorf("%s is in zone %q, want %s", want.name, zone, want.zone)
		}
		t.Logf("%s: %s, room for %d volumes", want.name, want.run("cat", "/proc/version"), got.GetMaxVolumesPerNode())
	}
}
