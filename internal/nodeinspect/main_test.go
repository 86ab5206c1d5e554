package nodeinspect

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
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
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	cloud "github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/node"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	driverName = "cinder.csi.openstack.org"
	serverID   = "83679162-1378-4288-a2d4-70e13ec132aa"
	podUID     = "0b0b4d11-6e0e-4c5c-9f4b-2d7bd8a7c001"
	small      = 320 << 20
)

// rig is a server of a development cloud, with real loop devices, and a kubelet's directory.
type rig struct {
	t       *testing.T
	store   *cloud.Store
	name    string
	kubelet string
	parts   Parts
	opts    Options
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test attaches loop devices and mounts filesystems: run it as root")
	}
	base, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	store, err := cloud.Open(filepath.Join(base, "store"))
	must(t, err)
	r := &rig{t: t, store: store, name: "node-" + uuid.NewString()[:8], kubelet: filepath.Join(base, "kubelet")}
	t.Cleanup(r.close)
	must(t, store.AddServer(r.name, nil))
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"uuid":"` + serverID + `","availability_zone":"az1"}`))
	}))
	t.Cleanup(metadata.Close)
	r.with(&blockdev.Loop{DevDir: store.DeviceDir(r.name)}, metadata.URL)
	return r
}

// with makes the parts of a node role that finds disks by finder.
func (r *rig) with(finder blockdev.Finder, metadataURL string) {
	r.parts = Parts{
		Finder: finder, FS: filesystem.New(filesystem.Options{}),
		Instance: instance.New(instance.Options{DevDir: r.t.TempDir(), MetadataURL: metadataURL, Order: []instance.Source{instance.MetadataService}}),
	}
	r.parts.Node = node.New(node.Config{Finder: finder, FS: r.parts.FS, Identity: r.parts.Instance.Identify, WithTopology: true, AttachLimit: 20, ReservedAttachments: 2})
	r.opts = Options{Driver: driverName, NodeName: "worker-1", KubeletDir: r.kubelet, Plugin: "process 1"}
}

func (r *rig) close() {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(r.kubelet))
	if err != nil {
		r.t.Error(err)
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
			r.t.Errorf("unmount %s: %v", m.Mountpoint, err)
		}
	}
	if err := r.store.Wipe(); err != nil {
		r.t.Error(err)
	}
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
}

// volume is one that the kubelet has recorded.
type volume struct{ id, staging, target string }

// use attaches a volume and has it staged and published to a pod, as the kubelet does.
func (r *rig) use(block bool) volume {
	r.t.Helper()
	v := r.recorded(block)
	must(r.t, r.store.Create(v.id, small))
	_, err := r.store.Attach(r.name, v.id, false)
	must(r.t, err)
	access := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	access.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "ext4"}}
	if block {
		access.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	}
	_, err = r.parts.Node.NodeStageVolume(r.t.Context(), &csi.NodeStageVolumeRequest{VolumeId: v.id, StagingTargetPath: v.staging, VolumeCapability: access})
	must(r.t, err)
	_, err = r.parts.Node.NodePublishVolume(r.t.Context(), &csi.NodePublishVolumeRequest{
		VolumeId: v.id, StagingTargetPath: v.staging, TargetPath: v.target, VolumeCapability: access,
	})
	must(r.t, err)
	return v
}

// recorded has the kubelet record a volume that is to be used.
func (r *rig) recorded(block bool) volume {
	r.t.Helper()
	v := volume{id: uuid.NewString()}
	pv := "pvc-" + v.id[:8]
	base := filepath.Join(r.kubelet, "plugins", "kubernetes.io", "csi")
	pod := filepath.Join(r.kubelet, "pods", podUID, "volumes", "kubernetes.io~csi", pv)
	if block {
		v.staging = filepath.Join(base, "volumeDevices", "staging", pv)
		v.target = filepath.Join(base, "volumeDevices", "publish", pv, podUID)
		r.record(filepath.Join(base, "volumeDevices", pv, "data"), v.id)
		must(r.t, os.MkdirAll(filepath.Dir(v.target), 0o750))
		return v
	}
	v.staging = filepath.Join(base, driverName, strings.Repeat(v.id[:8], 8), "globalmount")
	v.target = filepath.Join(pod, "mount")
	r.record(filepath.Dir(v.staging), v.id)
	r.record(pod, v.id)
	return v
}

func (r *rig) record(dir, volumeID string) {
	r.t.Helper()
	must(r.t, os.MkdirAll(dir, 0o750))
	must(r.t, os.WriteFile(filepath.Join(dir, "vol_data.json"),
		[]byte(`{"driverName":"`+driverName+`","volumeHandle":"`+volumeID+`","attachmentID":"csi-1"}`), 0o600))
}

// look looks at the node, and shows what it found if the test fails.
func (r *rig) look() *Answer {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	a := Look(ctx, r.parts, r.opts)
	var text strings.Builder
	must(r.t, a.Print(&text))
	for line := range strings.Lines(text.String()) {
		if len([]rune(line)) > 2*width {
			r.t.Errorf("a line has %d characters: %s", len(line), line)
		}
	}
	r.t.Cleanup(func() {
		if r.t.Failed() {
			r.t.Logf("%s", text.String())
		}
	})
	data, err := json.Marshal(a)
	must(r.t, err)
	for _, list := range []string{"disks", "mappings", "places", "findings"} {
		if strings.Contains(string(data), `"`+list+`":null`) {
			r.t.Errorf("%s is null: %s", list, data)
		}
	}
	var again Answer
	must(r.t, json.Unmarshal(data, &again))
	if repeated, err := json.Marshal(again); err != nil || string(repeated) != string(data) {
		r.t.Errorf("JSON doesn't carry all of it: %v\n%s\n%s", err, data, repeated)
	}
	return a
}

// wantWrong fails the test unless each of the parts is in something that is wrong.
func (r *rig) wantWrong(a *Answer, parts ...string) {
	r.t.Helper()
	var all []string
	for _, f := range a.Findings {
		if f.Wrong {
			all = append(all, f.Subject+": "+f.Text+" "+f.Why+" "+f.Do)
		}
	}
	for _, part := range parts {
		if !strings.Contains(strings.Join(all, "\n"), part) {
			r.t.Errorf("%q isn't told to be wrong, but only\n%s", part, strings.Join(all, "\n"))
		}
	}
	if a.Wrong() != (len(parts) > 0) {
		r.t.Errorf("wrong: %t: %s", a.Wrong(), strings.Join(all, "\n"))
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const zoneKey = zone.Key
