package driver

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// blocks copies four MiB to or from a volume for block access, past all caches.
const (
	writeBlocks = `dd if=/dev/urandom of=/tmp/blocks bs=1048576 count=4 2>/dev/null; dd if=/tmp/blocks of="$1" bs=1048576 seek="$2" oflag=direct 2>/dev/null; sha256sum </tmp/blocks`
	readBlocks  = `dd if="$1" bs=1048576 count=4 skip="$2" iflag=direct 2>/dev/null | sha256sum`
)

// TestGuestsShareABlockVolume: what one guest writes the other reads, both ways,
// while both have it; and one goes on when the other has left.
func TestGuestsShareABlockVolume(t *testing.T) {
	r, one, two := withGuests(t)
	req := request("shared")
	req.Parameters["type"] = "multiattach"
	req.VolumeCapabilities = []*csi.VolumeCapability{mode(true)}
	id := r.create(req)
	disks := []*disk{one.mounted(id, mode(true)), two.mounted(id, mode(true))}
	r.is(id, "in-use/2", 1)
	for i, writer := range disks {
		reader := disks[1-i]
		at := []string{"0", "512"}[i]
		want := writer.sh(writeBlocks, writer.target(), at)
		if got := reader.sh(readBlocks, reader.target(), at); got != want {
			t.Errorf("%s reads %s, %s has written %s", reader.name, got, writer.name, want)
		}
	}
	disks[0].leave()
	r.is(id, "in-use/1", 1)
	want := disks[1].sh(writeBlocks, disks[1].target(), "8")
	if got := disks[1].sh(readBlocks, disks[1].target(), "8"); got != want {
		t.Errorf("%s reads %s, and has written %s", disks[1].name, got, want)
	}
	disks[1].leave()
	r.is(id, "available/0", 1)
}

// TestGuestBlockVolumeGrows: a volume for block access grows in use, and its
// blocks stay.
func TestGuestBlockVolumeGrows(t *testing.T) {
	r, one, two := withGuests(t)
	for _, n := range []*node{one, two} { // virtio's block devices and SCSI
		capability := mode(true)
		capability.AccessMode.Mode = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
		req := request("block-" + n.name)
		req.VolumeCapabilities = []*csi.VolumeCapability{capability}
		d := n.mounted(r.create(req), capability)
		want := d.sh(writeBlocks, d.target(), "0")
		r.again("expand", func(ctx context.Context) error {
			_, err := r.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
				VolumeId: d.id, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 * gib}, VolumeCapability: capability,
			})
			return err
		})
		told := d.grow(2 * gib)
		if size := d.run("blockdev", "--getsize64", d.target()); told != 2*gib || size != "2147483648" {
			t.Errorf("%s: the node says %d bytes, the guest's kernel %s, want 2 GiB", n.name, told, size)
		}
		if sum := d.sh(readBlocks, d.target(), "0"); sum != want {
			t.Errorf("%s: the blocks are %s after it has grown, want %s", n.name, sum, want)
		}
		d.leave()
	}
}

// TestGuestVolumeOfABackEndThatCannotGrowInUse is NFS, by way of a file that
// Nova mounts for the hypervisor: the extension is refused, and the pod keeps
// its volume and what it has written.
func TestGuestVolumeOfABackEndThatCannotGrowInUse(t *testing.T) {
	r, one, _ := withGuests(t)
	req := request("guest-nfs")
	req.Parameters["type"] = "nfs"
	id := r.create(req)
	d := one.mounted(id, mountMode("ext4"))
	sum := d.write("kept", 4)
	if err := r.expand(t.Context(), id, 2*gib); err == nil || !strings.Contains(err.Error(), "extend") {
		t.Errorf("an extension that fails is no error: %v", err)
	}
	d.holds("kept", sum)
	if size := d.size(); size != "1073741824" {
		t.Errorf("the guest's kernel has %s bytes, want 1 GiB", size)
	}
	r.ask(http.MethodPost, "/volumes/"+id+"/action", map[string]any{"os-reset_status": map[string]any{"status": "in-use"}})
	d.leave()
	r.must(insist(func() error { return r.expand(t.Context(), id, 2*gib) }))
	again := one.mounted(id, mountMode("ext4"))
	again.holds("kept", sum)
	if size := again.size(); size != "2147483648" || again.free() < 3*gib/2 {
		t.Errorf("the guest's kernel has %s bytes, want 2 GiB; free are %d", size, again.free())
	}
	again.leave()
}
