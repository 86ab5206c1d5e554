package driver

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// TestGuestLives takes a volume with each filesystem through a whole life, on
// guests: what was written is there after each step.
func TestGuestLives(t *testing.T) {
	for _, fsType := range []string{"ext4", "ext3", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			r, one, two := withGuests(t)
			l := &life{rig: r, fsType: fsType, last: time.Now()}
			req := l.request("life-" + fsType)
			req.Parameters["type"] = "standard"
			id := r.create(req)
			l.did("create")
			d := one.mounted(id, mountMode(fsType))
			if got := d.sh(`findmnt -no FSTYPE "$1"`, d.target()); got != fsType {
				t.Errorf("the filesystem is %s, want %s", got, fsType)
			}
			l.did("attach, format, mount")
			l.sum = d.write("first", 8)
			l.grow(d, 2)
			l.copies(d, two)
			l.retype(d)
			d.leave()
			r.is(id, "available/0", 2)
			l.did("unmount, detach")
			moved := two.mounted(id, mountMode(fsType))
			moved.holds("first", l.sum)
			l.did("attach and mount on the other guest")
			moved.leave()
			r.again("delete", func(ctx context.Context) error {
				_, err := r.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
				return err
			})
			r.is(id, "gone", 0)
			l.did("unmount, detach, delete")
			t.Logf("| guest life, %-5s %s", fsType, strings.Join(l.took, "; "))
		})
	}
}

// life is one volume's.
type life struct {
	*rig

	fsType string
	// sum is that of the file "first".
	sum  string
	last time.Time
	took []string
}

// did notes how long a part took.
func (l *life) did(part string) {
	l.took = append(l.took, fmt.Sprintf("%s %.1f s", part, time.Since(l.last).Seconds()))
	l.last = time.Now()
}

func (l *life) request(name string) *csi.CreateVolumeRequest {
	req := request(name)
	req.VolumeCapabilities = []*csi.VolumeCapability{mountMode(l.fsType)}
	return req
}

// grow extends a mounted volume: Cinder, Nova's event, the guest's kernel, the
// filesystem.
func (l *life) grow(d *disk, size int64) {
	l.Helper()
	l.again("expand", func(ctx context.Context) error {
		got, err := l.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
			VolumeId: d.id, CapacityRange: &csi.CapacityRange{RequiredBytes: size * gib}, VolumeCapability: d.capability,
		})
		if err == nil && !got.GetNodeExpansionRequired() {
			l.Error("a filesystem has grown, and the node is not asked to do it")
		}
		return err
	})
	l.is(d.id, "in-use/1", int(size))
	before := d.free()
	want := size * gib
	if told, seen := d.grow(want), d.size(); told != want || seen != strconv.FormatInt(want, 10) {
		l.Errorf("the node says %d bytes, the guest's kernel %s, want %d", told, seen, want)
	}
	if grown := d.free() - before; grown < gib*9/10 {
		l.Errorf("the filesystem has got %d bytes more, want about %d", grown, gib)
	}
	d.holds("first", l.sum)
	l.did("expand")
}

// free is what NodeGetVolumeStats says is free.
func (d *disk) free() int64 {
	d.r.Helper()
	ctx, cancel := context.WithTimeout(d.r.Context(), slow)
	defer cancel()
	got, err := d.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: d.id, VolumePath: d.target(), StagingTargetPath: d.staging()})
	d.r.must(err)
	for _, u := range got.GetUsage() {
		if u.GetUnit() == csi.VolumeUsage_BYTES {
			return u.GetAvailable()
		}
	}
	d.r.Fatal("the node tells no bytes")
	return 0
}

// copies makes a snapshot, a backup and a clone of an attached volume, and looks
// into the volumes made of each on another guest. What was written later is in
// none of the first two.
func (l *life) copies(d *disk, other *node) {
	l.Helper()
	snapshot := l.snapshot(d.id+"-snapshot", d.id, nil)
	l.did("snapshot")
	backup := l.snapshot(d.id+"-backup", d.id, map[string]string{"type": "backup"})
	l.did("backup")
	d.write("second", 1)
	for _, c := range []struct {
		name   string
		source *csi.VolumeContentSource
		second string
	}{
		{"restore", fromSnapshot(snapshot), "absent"},
		{"restore of the backup", fromSnapshot(backup), "absent"},
		{"clone", fromVolume(d.id), "present"},
	} {
		req := l.request(fmt.Sprintf("%s of %s", c.name, d.id))
		req.VolumeContentSource = c.source
		req.CapacityRange.RequiredBytes = 3 * gib
		id := l.create(req)
		made := other.mounted(id, mountMode(l.fsType))
		made.holds("first", l.sum)
		if got := made.sh(`if test -e "$1"; then echo present; else echo absent; fi`, made.file("second")); got != c.second {
			l.Errorf("%s: what was written after it is %s, want %s", c.name, got, c.second)
		}
		if got := made.size(); got != strconv.FormatInt(3*gib, 10) {
			l.Errorf("%s: the disk has %s bytes, want 3 GiB", c.name, got)
		}
		// The filesystem of the source has two of them.
		if free := made.free(); free < 2*gib+gib/2 {
			l.Errorf("%s: %d bytes of 3 GiB are free", c.name, free)
		}
		made.leave()
		l.again("delete the "+c.name, func(ctx context.Context) error {
			_, err := l.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
			return err
		})
		l.did(c.name)
	}
	for _, id := range []string{backup, snapshot} {
		l.again("delete the source", func(ctx context.Context) error {
			_, err := l.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id})
			return err
		})
	}
	l.did("delete snapshot and backup")
}

// retype changes the type of a volume in use.
func (l *life) retype(d *disk) {
	l.Helper()
	l.again("retype", func(ctx context.Context) error {
		_, err := l.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: d.id, MutableParameters: map[string]string{"type": "fast"}})
		return err
	})
	if _, _, kind := l.seen(d.id); kind != "fast" {
		l.Errorf("the volume's type is %s, want fast", kind)
	}
	d.holds("first", l.sum)
	l.did("retype")
}
