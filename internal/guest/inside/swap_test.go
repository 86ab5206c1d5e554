package inside

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// TestADeviceUsedForSwapIsNotDetached is about the development cloud's disks. It is
// here since the root of most containers may not add swap.
func TestADeviceUsedForSwapIsNotDetached(t *testing.T) {
	run(t, "modprobe", "loop")
	dir := filepath.Join(t.TempDir(), "store")
	s, err := disk.Open(dir)
	must(t, err)
	t.Cleanup(func() { must(t, errors.Join(s.Wipe(), s.Close())) })
	must(t, s.AddServer("node-1", nil))
	id := uuid.NewString()
	must(t, s.Create(id, 16*mib))
	_, err = s.Attach("node-1", id, false)
	must(t, err)
	node, err := filepath.EvalSymlinks(filepath.Join(s.DeviceDir("node-1"), "disk/by-id/virtio-"+id[:20]))
	must(t, err)
	run(t, "mkswap", node)
	run(t, "swapon", node)
	t.Cleanup(func() { _ = exec.Command("swapoff", node).Run() })
	if err := s.Detach("node-1", id); !errors.Is(err, disk.ErrInUse) || !strings.Contains(err.Error(), "swap") {
		t.Errorf("detached while it is used for swap: %v", err)
	}
	run(t, "swapoff", node)
	must(t, s.Detach("node-1", id))

	if all := s.Attachments(); len(all) > 0 {
		t.Errorf("attached: %+v", all)
	}
	devices, err := loop.List()
	must(t, err)
	for _, d := range devices {
		t.Errorf("bound: %+v", d)
	}
	for _, pattern := range []string{"servers/*/dev/vd*", "servers/*/dev/.*", "servers/*/dev/disk/by-id/*", "servers/*/dev/disk/by-id/.*"} {
		if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
	}
}
