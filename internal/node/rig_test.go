package node_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/luks"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

const (
	mib = 1 << 20
	// small is what every supported filesystem fits into.
	small = 320 * mib
)

// typed returns a type of filesystem.
func typed(name string) *filesystem.Type {
	t, err := filesystem.TypeOf(name)
	if err != nil {
		panic(err)
	}
	return t
}

// rig is a server with real disks: sparse files behind loop devices.
type rig struct {
	t     testing.TB
	store *disk.Store
	name  string // the server
	dir   string // staging and target paths
	dev   string
	fs    *filesystem.FS
}

func newRig(t testing.TB) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test attaches loop devices and mounts filesystems: run it as root")
	}
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return newRigAt(t, base)
}

// newRigAt is newRig with all of its files below a directory.
func newRigAt(t testing.TB, base string) *rig {
	t.Helper()
	store, err := disk.Open(filepath.Join(base, "store"))
	if err != nil {
		t.Fatal(err)
	}
	// mkfs.btrfs takes two loop devices of one server name for the same disk.
	name := "node-" + uuid.NewString()[:8]
	r := &rig{t: t, store: store, name: name, dir: filepath.Join(base, "kubelet"), fs: filesystem.New(filesystem.Options{})}
	t.Cleanup(r.close)
	if err := store.AddServer(name, nil); err != nil {
		t.Fatal(err)
	}
	r.dev = store.DeviceDir(name)
	return r
}

// close takes away everything that a test, failed or not, has left.
func (r *rig) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.fs.Drain(ctx); err != nil {
		r.t.Errorf("drain: %v", err)
	}
	mounts := r.mounts()
	slices.Reverse(mounts)
	for _, m := range mounts {
		if err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
			r.t.Errorf("unmount %s: %v", m.Mountpoint, err)
		}
	}
	if err := r.store.Wipe(); err != nil {
		r.t.Errorf("wipe: %v", err)
	}
	if err := r.store.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
}

// mounts returns what is mounted below the rig's directory.
func (r *rig) mounts() []*mountinfo.Info {
	r.t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(r.dir))
	if err != nil {
		r.t.Fatal(err)
	}
	return mounts
}

func (r *rig) mountedAt(path string) int {
	n := 0
	for _, m := range r.mounts() {
		if m.Mountpoint == path {
			n++
		}
	}
	return n
}

// server returns a node service that knows nothing of what earlier ones did: as
// after a restart.
func (r *rig) server() *node.Server {
	return node.New(node.Config{Finder: &blockdev.Loop{DevDir: r.dev}, FS: r.fs, Crypt: luks.New(r.fs)})
}

// volume is a volume and where it is to be used.
type volume struct {
	id, staging, target string
	cap                 *csi.VolumeCapability
	readonly            bool
	context, secrets    map[string]string
	// first is what the controller says of when it was given to a server for the
	// first time, empty where it was before.
	first string
}

// attach makes a blank volume of that size and attaches it.
func (r *rig) attach(size int64, capability *csi.VolumeCapability) volume {
	r.t.Helper()
	v := r.unattached(size, capability)
	r.plug(v)
	return v
}

func (r *rig) unattached(size int64, capability *csi.VolumeCapability) volume {
	r.t.Helper()
	v := r.named(uuid.NewString(), capability)
	if err := r.store.Create(v.id, size); err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *rig) named(id string, capability *csi.VolumeCapability) volume {
	return volume{
		id: id, cap: capability,
		staging: filepath.Join(r.dir, id, "globalmount"),
		target:  filepath.Join(r.dir, id, "pod", "mount"),
	}
}

func (r *rig) plug(v volume) {
	r.t.Helper()
	if _, err := r.store.Attach(r.name, v.id, false); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) grow(v volume, size int64) {
	r.t.Helper()
	if err := r.store.Extend(v.id, size); err != nil {
		r.t.Fatal(err)
	}
	if err := r.store.GrowAttached(v.id); err != nil {
		r.t.Fatal(err)
	}
}

// device returns the path of the volume's disk.
func (r *rig) device(v volume) string {
	r.t.Helper()
	d, err := (&blockdev.Loop{DevDir: r.dev}).Find(context.Background(), v.id)
	if err != nil {
		r.t.Fatal(err)
	}
	return d.Path
}

// content is a checksum of everything on the volume. Holes of the file behind
// it are skipped, and blocks of zeroes, since the one may become the other.
func (r *rig) content(v volume) [sha256.Size]byte {
	r.t.Helper()
	run(r.t, "blockdev", "--flushbufs", r.device(v))
	f, err := os.Open(r.store.Path(disk.FromVolume(v.id)))
	must(r.t, err)
	defer func() { _ = f.Close() }()
	hash := sha256.New()
	block, zeroes := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; at += int64(len(block)) {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return [sha256.Size]byte(hash.Sum(nil))
		}
		must(r.t, err)
		at = data - data%int64(len(block))
		n, err := f.ReadAt(block, at)
		if err != nil && !errors.Is(err, io.EOF) {
			r.t.Fatal(err)
		}
		if !bytes.Equal(block[:n], zeroes[:n]) {
			_, _ = fmt.Fprintln(hash, at)
			_, _ = hash.Write(block[:n])
		}
	}
}

// mkfs makes a filesystem as somebody else may have.
func (r *rig) mkfs(v volume, fsType string) {
	r.t.Helper()
	run(r.t, "mkfs."+fsType, "-q", r.device(v))
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// filesystemOf is the capability of a workload that writes to a filesystem.
func filesystemOf(fsType string, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType, MountFlags: flags}},
	}
}

func rawBlock() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER},
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
	}
}

// withMode returns the volume as another kind of workload asks for it.
func (v volume) withMode(mode csi.VolumeCapability_AccessMode_Mode) volume {
	c := &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
		AccessType: v.cap.GetAccessType(),
	}
	v.cap = c
	return v
}

func (v volume) at(target string) volume {
	v.target = filepath.Join(filepath.Dir(v.target), target)
	return v
}

func (v volume) stageRequest() *csi.NodeStageVolumeRequest {
	req := &csi.NodeStageVolumeRequest{
		VolumeId: v.id, StagingTargetPath: v.staging, VolumeCapability: v.cap, VolumeContext: v.context, Secrets: v.secrets,
	}
	if v.first != "" {
		req.PublishContext = map[string]string{"cinder.csi.openstack.org/firstPublication": v.first}
	}
	return req
}

func (v volume) publishRequest() *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: v.id, StagingTargetPath: v.staging, TargetPath: v.target, VolumeCapability: v.cap, Readonly: v.readonly,
		VolumeContext: v.context,
	}
}

func (v volume) expandRequest(required int64) *csi.NodeExpandVolumeRequest {
	return &csi.NodeExpandVolumeRequest{
		VolumeId: v.id, VolumePath: cmp.Or(v.target, v.staging), VolumeCapability: v.cap,
		CapacityRange: &csi.CapacityRange{RequiredBytes: required},
	}
}

func (v volume) unpublishRequest() *csi.NodeUnpublishVolumeRequest {
	return &csi.NodeUnpublishVolumeRequest{VolumeId: v.id, TargetPath: v.target}
}

func (v volume) unstageRequest() *csi.NodeUnstageVolumeRequest {
	return &csi.NodeUnstageVolumeRequest{VolumeId: v.id, StagingTargetPath: v.staging}
}

// now is what the controller says of a first publication that it has just made.
func now() string { return time.Now().UTC().Format(time.RFC3339Nano) }

// The calls, each by a server that was just started.

func (r *rig) stage(v volume) error {
	_, err := r.server().NodeStageVolume(r.context(), v.stageRequest())
	return err
}

func (r *rig) publish(v volume) error {
	_, err := r.server().NodePublishVolume(r.context(), v.publishRequest())
	return err
}

func (r *rig) expand(v volume, required int64) (int64, error) {
	resp, err := r.server().NodeExpandVolume(r.context(), v.expandRequest(required))
	return resp.GetCapacityBytes(), err
}

func (r *rig) unpublish(v volume) error {
	_, err := r.server().NodeUnpublishVolume(r.context(), v.unpublishRequest())
	return err
}

func (r *rig) unstage(v volume) error {
	_, err := r.server().NodeUnstageVolume(r.context(), v.unstageRequest())
	return err
}

// context is that of a patient caller.
func (r *rig) context() context.Context {
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	r.t.Cleanup(cancel)
	return ctx
}

// must fails the test unless err is nil.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hold opens a file, and closes it again at the end of the test if that has not done it:
// a test that fails must leave no disk in use.
func hold(t testing.TB, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o600)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// wantCode fails the test unless err has the code and tells all of the parts.
func wantCode(t testing.TB, err error, want codes.Code, parts ...string) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("got %v (%v), want %v", got, err, want)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q doesn't tell %q", err, part)
		}
	}
}
