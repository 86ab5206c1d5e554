package node

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// TestStatsOfATargetThatIsJustUnmountedAreNotTheNodes: what is there then is a
// directory of the node's own disk.
func TestStatsOfATargetThatIsJustUnmountedAreNotTheNodes(t *testing.T) {
	s := New(Config{Finder: &blockdev.Loop{DevDir: t.TempDir()}, FS: filesystem.New(filesystem.Options{})})
	usage, err := s.filesystemStats(t.Context(), filesystem.MountPoint{Target: t.TempDir(), Root: "/", Number: 1})
	if code(err) != codes.NotFound {
		t.Errorf("got %v, %v, want NotFound", usage, err)
	}
}
