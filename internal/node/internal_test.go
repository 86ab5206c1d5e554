package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/keylock"
)

func TestCodesOfErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want codes.Code
	}{
		{errors.New("anything"), codes.Internal},
		{fmt.Errorf("wrapped: %w", errInvalid), codes.InvalidArgument},
		{fmt.Errorf("%w: %w", errNotYet, context.DeadlineExceeded), codes.Unavailable},
		{fmt.Errorf("%w: %w", filesystem.ErrBusy, context.DeadlineExceeded), codes.DeadlineExceeded},
		{filesystem.ErrBusy, codes.Aborted},
		{keylock.ErrBusy, codes.Aborted},
		{context.Canceled, codes.Canceled},
		{blockdev.ErrUnsafe, codes.FailedPrecondition},
		{blockdev.ErrVolumeID, codes.NotFound},
		{filesystem.ErrNotBlank, codes.FailedPrecondition},
		{filesystem.ErrOnlineGrowth, codes.FailedPrecondition},
		{filesystem.ErrCorrupt, codes.Internal},
		{filesystem.ErrGivenUp, codes.Unavailable},
		{errPublished, codes.AlreadyExists},
	} {
		if got := code(tt.err); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestATargetInTheDriversOwnContainerIsRefused(t *testing.T) {
	overlay := filesystem.MountPoint{Target: "/", FSType: "overlay"}
	disk := filesystem.MountPoint{Target: "/", FSType: "ext4"}
	kubelet := filesystem.MountPoint{Target: "/var/lib/kubelet", FSType: "ext4", Shared: true}
	alone := filesystem.MountPoint{Target: "/var/lib/kubelet", FSType: "ext4"}
	memory := filesystem.MountPoint{Target: "/var/lib/kubelet", FSType: "overlay", Shared: true}
	for name, tt := range map[string]struct {
		root, under filesystem.MountPoint
		want        string
	}{
		"a container's root":                        {overlay, overlay, "inside of this driver's own container"},
		"the kubelet's directory":                   {overlay, kubelet, ""},
		"a kubelet's directory on memory":           {overlay, memory, ""},
		"a kubelet's directory without propagation": {overlay, alone, "mountPropagation: Bidirectional"},
		"a node's root":                             {disk, disk, ""},
		"a node's own directory, private":           {disk, alone, ""},
		"a root that is a snapshot of btrfs":        {filesystem.MountPoint{Target: "/", FSType: "btrfs", Root: "/containerd/io.containerd.snapshotter.v1.btrfs/active/17"}, alone, "mountPropagation: Bidirectional"},
		"a root that is a native snapshot":          {filesystem.MountPoint{Target: "/", FSType: "ext4", Root: "/var/lib/containerd/io.containerd.snapshotter.v1.native/snapshots/17"}, alone, "mountPropagation: Bidirectional"},
		"a node whose root is a subvolume":          {filesystem.MountPoint{Target: "/", FSType: "btrfs", Root: "/@"}, alone, ""},
	} {
		err := checkVisible("/var/lib/kubelet/pods/x", tt.root, tt.under)
		if errors.Is(err, errOtherwise) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nothing is made before that is known.
	s := New(Config{Finder: &blockdev.System{}, Deployed: true, FS: filesystem.New(filesystem.Options{})})
	dir := filepath.Join(t.TempDir(), "target")
	contained := s.checkVisible(dir) != nil // where these tests themselves run in a container
	_, err := s.inspectOrMake(dir, makeDir)
	if errors.Is(err, errOtherwise) != contained {
		t.Errorf("the target: %v", err)
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) != contained {
		t.Errorf("the target: %v", err)
	}
}

func TestOnlyADiskCanBeGone(t *testing.T) {
	var root unix.Stat_t
	if err := unix.Stat("/", &root); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		at   pathState
		want bool
	}{
		"no such disk":  {pathState{number: unix.Mkdev(259, 1<<19)}, true},
		"tmpfs":         {pathState{number: unix.Mkdev(0, 1<<19), mount: filesystem.MountPoint{FSType: "tmpfs"}}, false},
		"a btrfs":       {pathState{number: unix.Mkdev(0, 1<<19), mount: filesystem.MountPoint{FSType: "btrfs"}}, true},
		"the root disk": {pathState{number: root.Dev}, false},
	} {
		if got := tt.at.gone(); got != tt.want {
			t.Errorf("%s: got %t, want %t", name, got, tt.want)
		}
	}
}

func TestPathsAreResolvedButForTheirEnd(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o750); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"link": "real", "real/end": "/nowhere", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for in, want := range map[string]string{
		"real/x":    "real/x",
		"link/x":    "real/x",
		"link/end":  "real/end",
		"missing/x": "missing/x",
	} {
		got, err := resolve(filepath.Join(dir, in))
		if err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s became %s (%v), want %s", in, got, err, want)
		}
	}
	if got, err := resolve(filepath.Join(dir, "loop", "x")); err == nil {
		t.Errorf("a path without end became %s", got)
	}
}

// TestALookEndsWithItsContext: when the storage of all volumes hangs, what was seen of a
// node is told before the command ends.
func TestALookEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		hangs, began := make(chan struct{}), time.Now()
		_, ended := bounded(ctx, func(context.Context) int { <-hangs; return 0 })
		if took := time.Since(began); ended || took >= lookTime {
			t.Errorf("ended %t, after %v", ended, took)
		}
		close(hangs)
	})
}
