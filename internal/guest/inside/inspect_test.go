package inside

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/node"
	"github.com/cinder-csi/cinder-csi/internal/nodeinspect"
)

// inspect looks at this guest as inspect node does.
func inspect(t *testing.T, finder blockdev.Finder) *nodeinspect.Answer {
	t.Helper()
	parts := nodeinspect.Parts{Finder: finder, FS: filesystem.New(filesystem.Options{}), Instance: instance.New(instance.Options{})}
	parts.Node = node.New(node.Config{Finder: parts.Finder, FS: parts.FS, Identity: parts.Instance.Identify})
	a := nodeinspect.Look(patient(t), parts, nodeinspect.Options{
		Driver: "cinder.csi.openstack.org", NodeName: "guest", KubeletDir: "/var/lib/kubelet", Plugin: "this test",
	})
	t.Cleanup(func() {
		if t.Failed() {
			var text strings.Builder
			_ = a.Print(&text)
			t.Log(text.String())
		}
	})
	return a
}

// recorded gives a volume the staging path that the kubelet has, and its record.
func (v *volume) recorded(t testing.TB) {
	t.Helper()
	dir := filepath.Join("/var/lib/kubelet/plugins/kubernetes.io/csi/cinder.csi.openstack.org", v.id)
	v.staging = filepath.Join(dir, "globalmount")
	must(t, os.MkdirAll(dir, 0o750))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.WriteFile(filepath.Join(dir, "vol_data.json"), []byte(`{"driverName":"cinder.csi.openstack.org","volumeHandle":"`+v.id+`"}`), 0o600))
}

// TestInspectTellsADiskThatWasPulled from under its mount, and all that is well before.
func TestInspectTellsADiskThatWasPulled(t *testing.T) {
	for _, bus := range []wire.Bus{wire.VirtioBlk, wire.VirtioSCSI} {
		t.Run(string(bus), func(t *testing.T) {
			v := newVolume(t, bus, small, filesystemOf("ext4"))
			v.recorded(t)
			v.attach(t)
			must(t, v.stage(patient(t)))
			at := func(a *nodeinspect.Answer) node.Place {
				i := slices.IndexFunc(a.Places, func(p node.Place) bool { return p.Path == v.staging })
				if i < 0 {
					t.Fatalf("no place %s in %+v", v.staging, a.Places)
				}
				return a.Places[i]
			}
			a := inspect(t, &blockdev.System{})
			if p := at(a); p.VolumeID != v.id || !p.Mounted || p.Condition != "" || p.Error != "" || p.Refused != "" {
				t.Errorf("%+v", p)
			}
			i := slices.IndexFunc(a.Disks, func(d nodeinspect.Disk) bool { return d.VolumeID == v.id }) // also where the disk tells a part of it
			if i < 0 || a.Disks[i].FoundBy != "serial" || a.Disks[i].Content != "ext4 filesystem" || a.Disks[i].System {
				t.Errorf("%+v", a.Disks)
			}
			if a.Wrong() || a.Server.ServerID == "" || a.Limit.Others == 0 {
				t.Errorf("%+v", a)
			}
			v.detach(t)
			a = inspect(t, &blockdev.System{})
			if p := at(a); p.Condition != "device_gone" || !a.Wrong() {
				t.Errorf("%+v", p)
			}
			must(t, v.unstage(patient(t)))
		})
	}
}

// TestInspectTellsADiskThatHangs, and doesn't wait for it: one that can't be read, and one
// that doesn't even tell its serial.
func TestInspectTellsADiskThatHangs(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, rawBlock())
	v.disk.CanHang = true
	disk := v.attach(t)
	known := &blockdev.System{}
	if a := inspect(t, known); a.Wrong() {
		t.Errorf("%+v", a.Findings)
	}
	hang(t, v.id)
	resumed := fill(t, disk)
	serialKnown, serialUnknown := inspect(t, known), inspect(t, &blockdev.System{})
	resume(t, v.id)
	resumed()
	for a, told := range map[*nodeinspect.Answer]bool{serialKnown: true, serialUnknown: false} {
		i := slices.IndexFunc(a.Disks, func(d nodeinspect.Disk) bool { return d.Name == disk.Name })
		if i < 0 || a.Disks[i].Unanswered == told || a.Disks[i].Hangs != told || !a.Disks[i].Counts || !a.Wrong() {
			t.Errorf("serial known: %t: %+v", told, a.Disks)
		}
	}
}
