package node_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func TestUnstageRefusesWhileTheVolumeIsUsed(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	must(t, r.publish(v))
	must(t, r.publish(v.at("second")))
	wantCode(t, r.unstage(v), codes.FailedPrecondition, v.target, v.at("second").target)
	must(t, r.unpublish(v))
	wantCode(t, r.unstage(v), codes.FailedPrecondition, v.at("second").target)
	if n := r.mountedAt(v.staging); n != 1 {
		t.Errorf("%d mounts of staging, want it kept", n)
	}
	must(t, r.unpublish(v.at("second")))
	must(t, r.unstage(v))

	// A staging path that somebody unmounted is no proof that all is over.
	must(t, r.stage(v))
	must(t, r.publish(v))
	run(t, "umount", v.staging)
	wantCode(t, r.unstage(v), codes.FailedPrecondition, v.target)
	wantCode(t, r.stage(v), codes.FailedPrecondition, v.target)
	must(t, r.unpublish(v))
	must(t, r.unstage(v))
}

func TestUnstageRefusesWhileABlockVolumeIsUsed(t *testing.T) {
	t.Parallel()
	r, b := staged(t, rawBlock())
	must(t, r.publish(b))
	wantCode(t, r.unstage(b), codes.FailedPrecondition, b.target)
	must(t, r.unpublish(b))
	must(t, r.unstage(b))
}

// TestACopyOfTheStagingMountIsNoOtherUse: where the node's tree is mounted a
// second time, every mount appears twice, and goes together with the first.
func TestACopyOfTheStagingMountIsNoOtherUse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	host := filepath.Join(r.dir, "host")
	must(t, os.MkdirAll(filepath.Join(r.dir, "tree"), 0o750))
	must(t, os.MkdirAll(host+filepath.Join(r.dir, "tree"), 0o750))
	tree := filepath.Join(r.dir, "tree")
	run(t, "mount", "--bind", tree, tree)
	run(t, "mount", "--make-shared", tree)
	run(t, "mount", "--bind", host, host)
	run(t, "mount", "--bind", tree, host+tree) // a peer: mounts below tree appear there too

	v := r.attach(small, filesystemOf("ext4"))
	v.staging = filepath.Join(tree, "globalmount")
	must(t, r.stage(v))
	if n := r.mountedAt(host + v.staging); n != 1 {
		t.Fatalf("%d copies of the staging mount, want 1", n)
	}
	single := v
	must(t, r.publish(single))
	must(t, r.unpublish(single))
	must(t, r.unstage(v))
	for _, m := range r.mounts() {
		if strings.HasSuffix(m.Mountpoint, "globalmount") {
			t.Errorf("%s is still mounted", m.Mountpoint)
		}
	}
	must(t, r.store.Detach(r.name, v.id))
}

// TestADiskThatTheKernelHoldsStaysStaged: a container that is ending may have a
// copy of a mount in a namespace of its own, through which it still writes.
func TestADiskThatTheKernelHoldsStaysStaged(t *testing.T) {
	t.Parallel()
	r, b := staged(t, rawBlock())
	holder := hold(t, r.device(b), os.O_RDONLY|os.O_EXCL) // as a mount does
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := r.server().NodeUnstageVolume(ctx, b.unstageRequest())
	wantCode(t, err, codes.FailedPrecondition, "another mount namespace")

	unstaged := make(chan error, 1)
	go func() { unstaged <- r.unstage(b) }()
	must(t, holder.Close())
	must(t, <-unstaged)
	must(t, r.store.Detach(r.name, b.id))
}

func TestUnpublishWaitsForAProcessThatEnds(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	must(t, r.publish(v))
	f := hold(t, filepath.Join(v.target, "file"), os.O_RDWR|os.O_CREATE)
	wantCode(t, r.unpublish(v), codes.Aborted, "in use", v.target)
	unpublished := make(chan error, 1)
	go func() { unpublished <- r.unpublish(v) }()
	must(t, f.Close())
	must(t, <-unpublished)
	must(t, r.unstage(v))
}

func TestUnpublishAndUnstageNeedNoDisk(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	must(t, r.publish(v))
	// The link that the disk is found by goes, as on a forced detachment.
	must(t, os.RemoveAll(filepath.Join(r.dev, "disk", "by-id")))
	for range 2 {
		must(t, r.unpublish(v))
		must(t, r.unstage(v))
	}
	r.wantGone(v.target)
	if m := r.mounts(); len(m) != 0 {
		t.Errorf("left mounted: %+v", m)
	}
}
