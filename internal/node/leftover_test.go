package node_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
	"github.com/cinder-csi/cinder-csi/internal/node"
	"github.com/cinder-csi/cinder-csi/internal/node/nodetest"
)

// TestAStageThatCannotProveItsMountLeavesNone: the kubelet detaches the disk of a
// stage that has failed for certain, and never unstages it.
func TestAStageThatCannotProveItsMountLeavesNone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, filesystemOf("ext4"))
	device := r.device(v)
	s := node.New(nodetest.Steps(node.Config{Finder: &blockdev.Loop{DevDir: r.dev}, FS: r.fs}, func(done string) {
		if done == "mounted" { // udev takes the node of a disk away that was pulled
			must(t, os.Rename(device, device+"-gone"))
		}
	}))
	_, err := s.NodeStageVolume(r.context(), v.stageRequest())
	if err == nil {
		t.Fatal("it was staged")
	}
	if n := r.mountedAt(v.staging); n != 0 {
		t.Errorf("%d mounts are left after: %v", n, err)
	}
	must(t, os.Rename(device+"-gone", device))
	must(t, r.stage(v))
}

// TestAStagedVolumeThatDoesNotGrowIsNotTakenForUnstaged: an earlier call has
// mounted it, whose answer was lost.
func TestAStagedVolumeThatDoesNotGrowIsNotTakenForUnstaged(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("btrfs"))
	second := looptest.New(t, looptest.Options{Size: small})
	run(t, "btrfs", "device", "add", "-f", second.Path, v.staging) // which isn't grown any more
	wantCode(t, r.stage(v), codes.Unavailable, "is staged", "2 disks", v.id)
	if n := r.mountedAt(v.staging); n != 1 {
		t.Errorf("%d mounts", n)
	}
	run(t, "btrfs", "device", "remove", second.Path, v.staging)
	must(t, r.stage(v))
	must(t, r.unstage(v))
}

// TestUnstageRefusesADiskThatItCannotNameWhileItIsUsed: what tells whose a disk
// is may be lost, while a workload still writes to it.
func TestUnstageRefusesADiskThatItCannotNameWhileItIsUsed(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	must(t, r.publish(v))
	must(t, os.RemoveAll(filepath.Join(r.dev, "disk", "by-id")))
	wantCode(t, r.unstage(v), codes.FailedPrecondition, v.target)
	if n := r.mountedAt(v.staging); n != 1 {
		t.Errorf("%d mounts of staging, want it kept", n)
	}
	must(t, r.unpublish(v))
	must(t, r.unstage(v))
	if m := r.mounts(); len(m) != 0 {
		t.Errorf("left mounted: %+v", m)
	}
}

// TestADiskThatWasReadIsWrittenToAfterwards: without having been detached, as a
// PersistentVolume that takes the place of another one.
func TestADiskThatWasReadIsWrittenToAfterwards(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, rawBlock())
	r.mkfs(v, "ext4")
	reader := v.withMode(csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY)
	must(t, r.stage(reader))
	must(t, r.unstage(reader))
	v.cap = filesystemOf("ext4")
	must(t, r.stage(v))
	must(t, r.unstage(v))
}

// TestUnstageTakesADirectoryOfTheNodeAway that somebody has mounted there: that is
// on a disk which is mounted elsewhere of course, but no volume.
func TestUnstageTakesADirectoryOfTheNodeAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, filesystemOf("ext4"))
	must(t, os.MkdirAll(v.staging, 0o750))
	run(t, "mount", "--bind", v.staging, v.staging)
	must(t, r.unstage(v))
	if m := r.mounts(); len(m) != 0 {
		t.Errorf("left mounted: %+v", m)
	}
}
