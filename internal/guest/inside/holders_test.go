package inside

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// TestWhatTheNodeBuildsUponARawVolumeKeepsItFromNothing: the node's udev activates the
// LVM that a workload, such as a virtual machine, has put on its volume. As long as
// nobody has that open, the volume is published, measured, grown, unstaged and detached.
func TestWhatTheNodeBuildsUponARawVolumeKeepsItFromNothing(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, rawBlock())
	disk := v.attach(t)
	v.use(t)
	build := func(name, below string, sectors int) {
		run(t, "dmsetup", "create", name, "--uuid", "LVM-"+name, "--table", fmt.Sprintf("0 %d linear %s 2048", sectors, below))
		t.Cleanup(func() { _ = os.Remove("/dev/mapper/" + name) })
	}
	build("guestvg-root", disk.Path, 8192)
	build("guestvg-snap", "/dev/mapper/guestvg-root", 4096) // upon the first
	idle := func(when string) {
		t.Helper()
		holders, err := blockdev.Holders(disk)
		must(t, err)
		words := fmt.Sprint(holders)
		if len(holders) != 2 || len(blockdev.InUse(holders)) != 0 ||
			!strings.Contains(words, "(guestvg-root), open 1 times") || !strings.Contains(words, "(guestvg-snap), open 0 times") {
			t.Errorf("%s: held by %v", when, holders)
		}
	}
	idle("built")
	must(t, v.stage(patient(t))) // once more, as after a restart of the kubelet
	must(t, v.publish(patient(t)))
	resize(t, v.disk.Image, 128*mib, 0)
	if _, err := v.expand(patient(t), 128*mib); err != nil {
		t.Errorf("grow: %v", err)
	}
	must(t, v.unpublish(patient(t)))

	// Somebody has it open: with data that may not be written yet.
	open, err := os.Open("/dev/mapper/guestvg-snap")
	must(t, err)
	if holders, err := blockdev.Holders(disk); err != nil || len(blockdev.InUse(holders)) != 1 {
		t.Errorf("open: held by %v, %v", holders, err)
	}
	wantCode(t, v.unstage(patient(t)), codes.FailedPrecondition, "guestvg-snap), open 1 times")
	must(t, open.Close())
	eventually(t, "udev lets go of it", func() bool {
		holders, err := blockdev.Holders(disk)
		return err == nil && len(blockdev.InUse(holders)) == 0
	})
	idle("closed")
	must(t, v.unstage(patient(t)))
	if holders, err := blockdev.Holders(disk); err != nil || len(holders) != 0 {
		t.Errorf("unstaged: held by %v, %v", holders, err)
	}

	// An encrypted volume can't be closed as long as something is built upon it.
	secret := newVolume(t, wire.VirtioBlk, 64*mib, rawBlock()).encrypted(t)
	secret.attach(t)
	secret.use(t)
	build("inner-root", "/dev/"+secret.mapping(), 4096)
	must(t, secret.unpublish(patient(t)))
	must(t, secret.unstage(patient(t)))
	secret.wantClosed(t)
	secret.detach(t)

	// What is to be formatted isn't taken from whoever has built upon it.
	other := newVolume(t, wire.VirtioBlk, small, filesystemOf("ext4"))
	blank := other.attach(t)
	build("blank", blank.Path, 4096)
	wantCode(t, other.stage(patient(t)), codes.FailedPrecondition, "vgchange -an")
	run(t, "dmsetup", "remove", "blank")
	must(t, other.stage(patient(t)))
	must(t, other.unstage(patient(t)))
	other.detach(t)
	v.detach(t)
}
