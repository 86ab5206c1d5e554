package node_test

import (
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/luks"
	"github.com/cinder-csi/cinder-csi/internal/node"
	"github.com/cinder-csi/cinder-csi/internal/node/nodetest"
)

// serveOnLoops is the server of a child that is killed.
func serveOnLoops(devDir string, step func(string)) *node.Server {
	fs := filesystem.New(filesystem.Options{})
	return node.New(nodetest.Steps(node.Config{Finder: &blockdev.Loop{DevDir: devDir}, FS: fs, Crypt: luks.New(fs)}, step))
}

// killed has a call killed after each of its steps.
func (r *rig) killed(method string, req proto.Message) {
	r.t.Helper()
	nodetest.Killed(r.t, os.Args[0], r.dev, method, req)
}

// TestANodePluginThatIsKilledContinues kills the node plugin after every single
// step of every call and repeats the call until it succeeds.
func TestANodePluginThatIsKilledContinues(t *testing.T) {
	for _, fsType := range []string{"ext4", "ext3", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, filesystemOf(fsType))
			r.killed("stage", v.stageRequest())
			r.killed("publish", v.publishRequest())
			file := v.target + "/file"
			must(t, os.WriteFile(file, []byte("precious"), 0o600))
			if typed(fsType).GrowsOnline() {
				r.grow(v, 2*small)
				r.killed("expand", v.expandRequest(2*small))
				r.checkUsage(v, 2*small)
			}
			if n := len(r.mounts()); n != 2 {
				t.Errorf("%d mounts, want one of staging and one of the target", n)
			}
			r.killed("unpublish", v.unpublishRequest())
			r.killed("unstage", v.unstageRequest())
			r.wantGone(v.target)
			if m := r.mounts(); len(m) != 0 {
				t.Errorf("left mounted: %+v", m)
			}

			// Grown while it is away: the next stage grows the filesystem.
			r.grow(v, 3*small)
			r.killed("stage", v.stageRequest())
			r.killed("publish", v.publishRequest())
			r.checkUsage(v, 3*small)
			if got, err := os.ReadFile(file); err != nil || string(got) != "precious" {
				t.Errorf("read %q, %v", got, err)
			}
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
			must(t, r.store.Detach(r.name, v.id))
		})
	}
	t.Run("block", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		v := r.attach(small, rawBlock())
		r.killed("stage", v.stageRequest())
		r.killed("publish", v.publishRequest())
		if n := r.mountedAt(v.target); n != 1 {
			t.Errorf("the device is bound %d times, want once", n)
		}
		r.grow(v, 2*small)
		r.killed("expand", v.expandRequest(2*small))
		r.killed("unpublish", v.unpublishRequest())
		r.killed("unstage", v.unstageRequest())
		r.wantGone(v.target)
		must(t, r.store.Detach(r.name, v.id))
	})
}
