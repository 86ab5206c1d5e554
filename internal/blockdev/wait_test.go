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
