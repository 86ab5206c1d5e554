package blockdev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// observed tells when a Finder has looked, as often as looked has room.
type observed struct {
	System
	looked chan struct{}
}

func (o observed) Find(ctx context.Context, volumeID string) (Disk, error) {
	d, err := o.System.Find(ctx, volumeID)
	select {
	case o.looked <- struct{}{}:
	default:
	}
	return d, err
}

func TestWaitIsWokenByADiskThatComes(t *testing.T) {
	tr := newTree(t)
	o := observed{tr.system(), make(chan struct{}, 2)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found := make(chan error, 1)
	go func() {
		d, err := Waiter{Finder: o, Poll: time.Hour}.Wait(ctx, volumeA)
		if err == nil && d.Name != "vdb" {
			err = errors.New("found " + d.Name)
		}
		found <- err
	}()
	<-o.looked
	<-o.looked // by now it watches
	start := time.Now()
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	tr.link("../../vdb", "dev/disk/by-id/virtio-"+volumeA[:20])
	if err := <-found; err != nil {
		t.Fatal(err)
	}
	t.Logf("after %v", time.Since(start))
}

func TestWaitFindsADiskWhoseDirectoriesComeLater(t *testing.T) {
	tr := newTree(t)
	tr.remove("dev")
	o := observed{tr.system(), make(chan struct{}, 2)}
	found := make(chan error, 1)
	go func() {
		_, err := Wait(t.Context(), o, volumeA)
		found <- err
	}()
	<-o.looked
	<-o.looked
	tr.dir("dev")
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	if err := <-found; err != nil {
		t.Fatal(err)
	}
}

func TestWaitFindsADiskWhoseSerialComesWithoutAnEvent(t *testing.T) {
	tr := newTree(t)
	tr.disk("vdb", "252:16", nil)
	o := observed{tr.system(), make(chan struct{}, 2)}
	found := make(chan error, 1)
	go func() {
		_, err := Waiter{Finder: o, Poll: time.Millisecond}.Wait(t.Context(), volumeA)
		found <- err
	}()
	<-o.looked
	<-o.looked
	tr.file("sys/block/vdb/serial", volumeA[:20])
	if err := <-found; err != nil {
		t.Fatal(err)
	}
}

// TestWaitHasTheKernelLookAgainAtADiskWithoutCapacity: the kernel asks but once, and
// doesn't tell what it has found.
func TestWaitHasTheKernelLookAgainAtADiskWithoutCapacity(t *testing.T) {
	tr := newTree(t)
	tr.disk("sda", "8:0", map[string]string{"device/vpd_pg80": page(0x80, volumeA), "size": "0", "device/rescan": ""})
	tr.disk("sdb", "8:16", map[string]string{"device/vpd_pg80": page(0x80, volumeC), "size": "0", "device/rescan": ""})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	type result struct {
		disk Disk
		err  error
	}
	found := make(chan result, 1)
	go func() {
		d, err := Waiter{Finder: tr.system(), Poll: time.Hour}.Wait(ctx, volumeA)
		found <- result{d, err}
	}()
	for asked := false; !asked && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		got, err := os.ReadFile(tr.path("sys/block/sda/device/rescan"))
		if err != nil {
			t.Fatal(err)
		}
		asked = string(got) == "1"
	}
	tr.file("sys/block/sda/size", "2048")
	if r := <-found; r.err != nil || r.disk.Name != "sda" || r.disk.Size != 1<<20 {
		t.Errorf("found %+v, %v", r.disk, r.err)
	}
	if got, err := os.ReadFile(tr.path("sys/block/sdb/device/rescan")); err != nil || len(got) > 0 {
		t.Errorf("another disk was looked at: %q, %v", got, err)
	}
}

func TestWaitEndsWithItsContextAndSaysWhatItSaw(t *testing.T) {
	tr := newTree(t)
	o := observed{tr.system(), make(chan struct{}, 2)}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-o.looked
		<-o.looked
		cancel()
	}()
	if _, err := Wait(ctx, o, volumeA); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	cancelled, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Wait(cancelled, tr.system(), volumeA); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

func TestWaitDoesNotWaitForWhatIsWrong(t *testing.T) {
	tr := newTree(t)
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	tr.disk("vdc", "252:32", map[string]string{"serial": volumeA[:20]})
	if _, err := Wait(t.Context(), tr.system(), volumeA); !errors.Is(err, ErrUnsafe) {
		t.Errorf("%v", err)
	}
	if _, err := Wait(t.Context(), tr.system(), "odd"); !errors.Is(err, ErrVolumeID) {
		t.Errorf("%v", err)
	}
}

func TestWaitFindsALoopDeviceThatComes(t *testing.T) {
	dev := t.TempDir()
	found := make(chan error, 1)
	go func() {
		_, err := Wait(t.Context(), Loop{DevDir: dev}, volumeA)
		found <- err
	}()
	attach(t, dev, "volume-"+volumeA, volumeA)
	if err := <-found; err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dev, "vdb")); err != nil {
		t.Fatal(err)
	}
}
