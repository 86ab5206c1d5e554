package inside

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
	"github.com/cinder-csi/cinder-csi/internal/node"
	"github.com/cinder-csi/cinder-csi/internal/node/nodetest"
)

// serveHere is the server of a child that is killed: on the guest's own /dev.
func serveHere(_ string, step func(string)) *node.Server {
	return node.New(nodetest.Steps(configuration(node.Config{}), step))
}

// killed has a call killed after each of its steps, which it returns. The guest's
// init is this test binary.
func killed(t testing.TB, method string, req proto.Message) []string {
	t.Helper()
	return nodetest.Killed(t, "/init", "", method, req)
}

// A node plugin is killed after every single step of every call, and the call
// repeated until it succeeds: on real disks, with growth while it is mounted, and
// with encryption.

func TestANodePluginIsKilledWithExt4(t *testing.T) {
	newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).liveKilled(t)
}

func TestANodePluginIsKilledWithXFS(t *testing.T) {
	newVolume(t, wire.VirtioSCSI, small, filesystemOf("xfs")).liveKilled(t)
}

func TestANodePluginIsKilledWithAnEncryptedVolume(t *testing.T) {
	newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4")).encrypted(t).liveKilled(t)
}

func TestANodePluginIsKilledWithAnEncryptedBlockVolume(t *testing.T) {
	newVolume(t, wire.VirtioBlk, 64*mib, rawBlock()).encrypted(t).liveKilled(t)
}

func (v *volume) liveKilled(t testing.TB) {
	t.Helper()
	disk := v.attach(t)
	size := disk.Size
	steps := killed(t, "stage", v.stageRequest())
	for _, step := range v.steps() {
		if !slices.Contains(steps, step) {
			t.Errorf("it was never killed after %q", step)
		}
	}
	killed(t, "publish", v.publishRequest())
	content := v.write(t)
	resize(t, v.disk.Image, 2*size, 0)
	killed(t, "expand", v.expandRequest(2*size))
	if v.context == nil {
		v.wantSize(t, 2*size)
	} else {
		v.wantOpen(t, disk)
		v.wantUsage(t, 2*size-header)
	}
	v.wantContent(t, content)
	killed(t, "unpublish", v.unpublishRequest())
	killed(t, "unstage", v.unstageRequest())
	wantNotMounted(t, v)
	v.wantClosed(t)
	v.use(t)
	v.wantContent(t, content)
	v.release(t)
}

// steps are those that the first stage of a volume must have at least.
func (v *volume) steps() []string {
	steps := []string{"found"}
	if v.context != nil {
		steps = append(steps, "encrypted", "opened")
	}
	if v.capability.GetBlock() == nil {
		steps = append(steps, "probed", "formatted", "mounted")
	}
	return steps
}
