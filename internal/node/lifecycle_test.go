package node_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
)

// TestAVolumeGoesThroughItsLife takes every kind of volume through all calls,
// each of them twice, each by a server that was just started.
func TestAVolumeGoesThroughItsLife(t *testing.T) {
	for _, tt := range []struct {
		name, fsType string
		cap          *csi.VolumeCapability
	}{
		{"ext4", "ext4", filesystemOf("ext4")},
		{"ext3", "ext3", filesystemOf("ext3")},
		{"xfs", "xfs", filesystemOf("xfs")},
		{"btrfs", "btrfs", filesystemOf("btrfs")},
		{"ext4 where none is named", "ext4", filesystemOf("")},
		{"ext4 with mount flags", "ext4", filesystemOf("ext4", "noatime", "noexec", "errors=remount-ro")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, tt.cap)
			for range 2 {
				must(t, r.stage(v))
			}
			if m := r.mounts(); len(m) != 1 || m[0].FSType != tt.fsType || m[0].Mountpoint != v.staging {
				t.Fatalf("staged as %+v", m)
			}
			for range 2 {
				must(t, r.publish(v))
			}
			if n := r.mountedAt(v.target); n != 1 {
				t.Fatalf("%d mounts at the target, want 1", n)
			}
			file := filepath.Join(v.target, "file")
			must(t, os.WriteFile(file, []byte("precious"), 0o600))
			r.checkUsage(v, small)
			for range 2 {
				must(t, r.unpublish(v))
			}
			r.wantGone(v.target)
			for range 2 {
				must(t, r.unstage(v))
			}
			if m := r.mounts(); len(m) != 0 {
				t.Fatalf("left mounted: %+v", m)
			}

			must(t, r.stage(v))
			must(t, r.publish(v))
			got, err := os.ReadFile(file)
			if err != nil || string(got) != "precious" {
				t.Fatalf("read %q, %v after another stage", got, err)
			}
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
			must(t, r.store.Detach(r.name, v.id))
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
		})
	}
}

func TestABlockVolumeGoesThroughItsLife(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, rawBlock())
	for range 2 {
		must(t, r.stage(v))
	}
	if m := r.mounts(); len(m) != 0 {
		t.Fatalf("staging a block volume mounted %+v", m)
	}
	for range 3 {
		must(t, r.publish(v))
	}
	if n := r.mountedAt(v.target); n != 1 {
		t.Fatalf("the device is bound %d times, want once", n)
	}
	data := bytes.Repeat([]byte("precious"), 512)
	f, err := os.OpenFile(v.target, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(data, 100*mib)
	must(t, errors.Join(err, f.Close()))
	resp, err := r.server().NodeGetVolumeStats(r.context(), &csi.NodeGetVolumeStatsRequest{VolumeId: v.id, VolumePath: v.target})
	must(t, err)
	if u := resp.GetUsage(); len(u) != 1 || u[0].GetTotal() != small || u[0].GetUnit() != csi.VolumeUsage_BYTES {
		t.Fatalf("usage %v, want %d bytes", u, small)
	}
	for range 2 {
		must(t, r.unpublish(v))
	}
	r.wantGone(v.target)
	for range 2 {
		must(t, r.unstage(v))
	}
	// What was written is in the file behind, without the device's cache.
	got := make([]byte, len(data))
	backing, err := os.Open(r.store.Path(disk.FromVolume(v.id)))
	must(t, err)
	_, err = backing.ReadAt(got, 100*mib)
	must(t, errors.Join(err, backing.Close()))
	if !bytes.Equal(got, data) {
		t.Error("the data has not reached the disk")
	}
	must(t, r.store.Detach(r.name, v.id))
}

// checkUsage asks for the stats at both paths of a filesystem volume.
func (r *rig) checkUsage(v volume, size int64) {
	r.t.Helper()
	for _, path := range []string{v.staging, v.target} {
		resp, err := r.server().NodeGetVolumeStats(r.context(), &csi.NodeGetVolumeStatsRequest{VolumeId: v.id, VolumePath: path})
		must(r.t, err)
		for i, u := range resp.GetUsage() {
			if u.GetTotal() <= 0 || u.GetAvailable() <= 0 || u.GetUsed() < 0 || u.GetAvailable() > u.GetTotal() {
				r.t.Errorf("usage %d at %s makes no sense: %v", i, path, u)
			}
		}
		if u := resp.GetUsage(); len(u) == 0 || u[0].GetTotal() > size || u[0].GetTotal() < size/2 {
			r.t.Errorf("usage at %s of a volume of %d bytes: %v", path, size, u)
		}
	}
}

func (r *rig) wantGone(path string) {
	r.t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatalf("%s is still there (%v)", path, err)
	}
}
