package inside

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
	"github.com/cinder-csi/cinder-csi/internal/luks"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

const (
	mib = 1 << 20
	// small is what every supported filesystem fits into.
	small = 320 * mib
)

// volume is a volume, where it is to be used, and how.
type volume struct {
	id              string
	disk            wire.Disk
	staging, target string
	capability      *csi.VolumeCapability
	// context and secrets are what the calls get besides.
	context, secrets map[string]string
	// first: the controller says that no server had the volume before.
	first bool
}

// newVolume returns a volume that isn't attached yet. Its places are where the
// kubelet has them.
func newVolume(t testing.TB, bus wire.Bus, size int64, capability *csi.VolumeCapability) *volume {
	t.Helper()
	id := uuid.NewString()
	dir := filepath.Join("/var/lib/kubelet", id)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	v := &volume{
		id: id, disk: wire.Disk{Image: id, Bus: bus, Serial: id, Size: size},
		staging: filepath.Join(dir, "globalmount"), target: filepath.Join(dir, "pod"), capability: capability,
	}
	t.Cleanup(func() { v.unmount(t) })
	return v
}

// attach plugs the volume's disk and waits until the guest has it.
func (v *volume) attach(t testing.TB) blockdev.Disk {
	t.Helper()
	plug(t, v.disk)
	if v.disk.Bus == wire.MuteSCSI {
		// Wait would have the host look at all its places, which takes seconds, in
		// which no disk can go.
		scan(t)
		t.Cleanup(func() { v.forget(t) })
	}
	disk, err := (&blockdev.System{}).Wait(patient(t), v.id)
	must(t, err)
	if v.disk.Bus == wire.MuteSCSI {
		// The disk shows before the kernel has done with it. It reads the capacity
		// once more then, which a test that has pulled the disk isn't about.
		lookAgain(t, disk.Name)
	}
	return disk
}

// detach pulls the volume's disk and waits until the guest has lost it.
func (v *volume) detach(t testing.TB) {
	t.Helper()
	pull(t, v.disk.Image)
	v.forget(t)
	eventually(t, "the guest lets go of the disk", func() bool { return !present(v.id) })
}

// forget has the guest drop a disk whose bus doesn't tell that it has gone.
func (v *volume) forget(t testing.TB) {
	t.Helper()
	if v.disk.Bus != wire.MuteSCSI {
		return
	}
	for _, name := range scsiDisks(t, v.id) {
		must(t, os.WriteFile(filepath.Join("/sys/block", name, "device", "delete"), []byte("1"), 0o200))
	}
}

// scan has the guest look for disks whose bus doesn't tell that they have come, for
// a test that isn't about that.
func scan(t testing.TB) {
	t.Helper()
	hosts, err := filepath.Glob("/sys/class/scsi_host/host*")
	must(t, err)
	for _, host := range hosts {
		name, err := os.ReadFile(filepath.Join(host, "proc_name"))
		must(t, err)
		if strings.TrimSpace(string(name)) == "virtio_scsi" {
			must(t, os.WriteFile(filepath.Join(host, "scan"), []byte("0 0 -"), 0o200))
		}
	}
}

// lookAgain has the kernel ask a SCSI disk for its capacity and its serial, once it
// has done with what it does with the disk.
func lookAgain(t testing.TB, disk string) {
	t.Helper()
	must(t, os.WriteFile("/sys/block/"+disk+"/device/rescan", []byte("1"), 0o200))
}

// scsiDisks returns the names of the SCSI disks that have a volume's serial.
func scsiDisks(t testing.TB, id string) []string {
	t.Helper()
	pages, err := filepath.Glob("/sys/block/sd*/device/vpd_pg80")
	must(t, err)
	var names []string
	for _, page := range pages {
		data, err := os.ReadFile(page)
		if err == nil && strings.HasSuffix(string(data), id) {
			names = append(names, strings.Split(page, "/")[3])
		}
	}
	return names
}

// present reports whether a disk of that volume is there, safe or not.
func present(id string) bool {
	_, err := (&blockdev.System{}).Find(context.Background(), id)
	return !errors.Is(err, blockdev.ErrNotFound)
}

// unmount takes away what a test that has failed has left mounted.
func (v *volume) unmount(t testing.TB) {
	t.Helper()
	for _, path := range []string{v.target, v.staging} {
		for unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH) == nil {
			t.Logf("%s was left mounted", path)
		}
	}
}

// server returns a node service that knows nothing of what earlier ones did.
func server() *node.Server { return newServer(node.Config{}) }

// mounter runs mount(8). A new one runs umount(8) to learn how that answers, which
// takes longer than most calls where the processor is emulated.
var mounter = sync.OnceValue(func() mount.Interface { return mount.NewWithoutSystemd("") })

// cost is that of a key. It is cheap, since an emulated processor takes seconds for
// what is usual.
func cost() luks.Cost { return luks.Cost{Memory: 1 << 10, Passes: 4} }

// newServer adds what every node service has.
func newServer(cfg node.Config) *node.Server { return node.New(configuration(cfg)) }

func configuration(cfg node.Config) node.Config {
	fs := filesystem.New(filesystem.Options{Mounter: mounter()})
	cfg.FS = fs
	if cfg.Finder == nil {
		cfg.Finder = &blockdev.System{}
	}
	if cfg.Crypt == nil {
		cfg.Crypt = luks.NewWithCost(fs, cost())
	}
	return cfg
}

func filesystemOf(fsType string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

func readOnly(fsType string) *csi.VolumeCapability {
	c := filesystemOf(fsType)
	c.AccessMode.Mode = csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
	return c
}

func rawBlock() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

// The requests of the calls.

func (v *volume) stageRequest() *csi.NodeStageVolumeRequest {
	req := &csi.NodeStageVolumeRequest{
		VolumeId: v.id, StagingTargetPath: v.staging, VolumeCapability: v.capability, VolumeContext: v.context, Secrets: v.secrets,
	}
	if v.first {
		req.PublishContext = map[string]string{"cinder.csi.openstack.org/firstPublication": time.Now().Format(time.RFC3339Nano)}
	}
	return req
}

func (v *volume) publishRequest() *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: v.id, StagingTargetPath: v.staging, TargetPath: v.target, VolumeCapability: v.capability, VolumeContext: v.context,
	}
}

func (v *volume) expandRequest(size int64) *csi.NodeExpandVolumeRequest {
	return &csi.NodeExpandVolumeRequest{
		VolumeId: v.id, VolumePath: v.target, StagingTargetPath: v.staging, VolumeCapability: v.capability,
		CapacityRange: &csi.CapacityRange{RequiredBytes: size},
	}
}

func (v *volume) unpublishRequest() *csi.NodeUnpublishVolumeRequest {
	return &csi.NodeUnpublishVolumeRequest{VolumeId: v.id, TargetPath: v.target}
}

func (v *volume) unstageRequest() *csi.NodeUnstageVolumeRequest {
	return &csi.NodeUnstageVolumeRequest{VolumeId: v.id, StagingTargetPath: v.staging}
}

func (v *volume) stage(ctx context.Context) error {
	_, err := server().NodeStageVolume(ctx, v.stageRequest())
	return err
}

func (v *volume) publish(ctx context.Context) error {
	_, err := server().NodePublishVolume(ctx, v.publishRequest())
	return err
}

func (v *volume) expand(ctx context.Context, size int64) (int64, error) {
	resp, err := server().NodeExpandVolume(ctx, v.expandRequest(size))
	return resp.GetCapacityBytes(), err
}

func (v *volume) unpublish(ctx context.Context) error {
	_, err := server().NodeUnpublishVolume(ctx, v.unpublishRequest())
	return err
}

func (v *volume) unstage(ctx context.Context) error {
	_, err := server().NodeUnstageVolume(ctx, v.unstageRequest())
	return err
}

// use stages and publishes the volume.
func (v *volume) use(t testing.TB) {
	t.Helper()
	must(t, v.stage(patient(t)))
	must(t, v.publish(patient(t)))
}

// release unpublishes and unstages it, so that it could be detached.
func (v *volume) release(t testing.TB) {
	t.Helper()
	must(t, v.unpublish(patient(t)))
	must(t, v.unstage(patient(t)))
}

// file is a file on the published volume.
func (v *volume) file() string { return filepath.Join(v.target, "file") }

// write writes new content, to a file or to the device, and returns it.
func (v *volume) write(t testing.TB) string {
	t.Helper()
	content := rand.Text()
	path := v.target
	if v.capability.GetBlock() == nil {
		path = v.file()
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	_, err = f.WriteString(content)
	must(t, errors.Join(err, f.Sync(), f.Close()))
	return content
}

// wantContent reads what write has written.
func (v *volume) wantContent(t testing.TB, want string) {
	t.Helper()
	path := v.target
	if v.capability.GetBlock() == nil {
		path = v.file()
	}
	f, err := os.Open(path)
	must(t, err)
	got := make([]byte, len(want))
	_, err = io.ReadFull(f, got)
	must(t, errors.Join(err, f.Close()))
	if string(got) != want {
		t.Errorf("%s holds %q, want %q", path, got, want)
	}
}

// wantSize checks that the filesystem has grown to nearly all of that size, or
// the device to just that.
func (v *volume) wantSize(t testing.TB, size int64) {
	t.Helper()
	if v.capability.GetBlock() != nil {
		f, err := os.Open(v.target)
		must(t, err)
		got, err := f.Seek(0, io.SeekEnd)
		must(t, errors.Join(err, f.Close()))
		if got != size {
			t.Errorf("the device has %d bytes, want %d", got, size)
		}
		return
	}
	var st unix.Statfs_t
	must(t, unix.Statfs(v.target, &st))
	got := int64(st.Blocks) * st.Bsize
	if got > size || got < size*8/10 {
		t.Errorf("the filesystem has %d MiB, want about %d", got/mib, size/mib)
	}
}

// wantCode checks the code of an error, and that it says something.
func wantCode(t testing.TB, err error, code codes.Code, words ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	t.Logf("refused as it should be: %v", err)
}

// wantUntouched runs f and checks that the volume's content is, as the host has
// it, byte for byte the same afterwards.
func (v *volume) wantUntouched(t testing.TB, f func()) {
	t.Helper()
	unix.Sync()
	before := hash(t, v.disk.Image)
	f()
	unix.Sync()
	if after := hash(t, v.disk.Image); after != before {
		t.Errorf("the content of volume %s has changed", v.id)
	}
}
