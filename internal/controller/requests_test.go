package controller_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// polls are the reads that only waiting makes; volume.list is among them, but
// CreateVolume also lists once to find its earlier attempt; see spentCreating.
var polls = []string{"volume.get", "attachment.list", "snapshot.get", "backup.get"}

func TestRequestsPerOperation(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	w.resetRequests()
	var v string
	var snapshot *csi.Snapshot
	steps := []struct {
		name, want string
		do         func()
	}{
		{"create", "volume.create:1", func() { v = w.create(request("pvc-1", 1)).GetVolumeId() }},
		{"create again", "volume.list:1", func() { w.create(request("pvc-1", 1)) }},
		{"publish, which is put on record", "attachment.create:1 volume.metadata.update:1", func() { w.publish(v, "one") }},
		{"publish again", "attachment.create:1", func() { w.publish(v, "one") }},
		{"expand", "volume.extend:1", func() {
			if _, err := w.ControllerExpandVolume(w.within(time.Minute), expandRequest(v, 2)); err != nil {
				t.Fatal(err)
			}
		}},
		{"snapshot", "snapshot.create:1 snapshot.list:1", func() { snapshot = w.snapshot("snap", v) }},
		{"create from snapshot", "volume.create:1", func() {
			req := request("restored", 2)
			req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapshot.GetSnapshotId()}}}
			w.create(req)
		}},
		{"clone", "volume.create:1", func() {
			req := request("clone", 2)
			req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: v}}}
			w.create(req)
		}},
		{"delete snapshot", "snapshot.delete:1", func() {
			if _, err := w.DeleteSnapshot(w.within(time.Minute), &csi.DeleteSnapshotRequest{SnapshotId: snapshot.GetSnapshotId()}); err != nil {
				t.Fatal(err)
			}
		}},
		{"unpublish", "attachment.delete:1", func() { w.unpublish(v, "one") }},
		{"unpublish again", "attachment.delete:1", func() { w.unpublish(v, "one") }},
		{"delete", "volume.delete:1", func() { w.remove(v) }},
		{"delete again", "volume.delete:1", func() { w.remove(v) }},
	}
	for _, s := range steps {
		s.do()
		spent := func() string { return w.spent(polls...) }
		if strings.HasPrefix(s.want, "volume.create") {
			spent = func() string { return w.spentCreating(1, 1) }
		}
		if got := spent(); got != s.want {
			t.Errorf("%s: %s, want %s", s.name, got, s.want)
		}
	}
}

func TestNothingIsAskedWhenNothingIsGoingOn(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	w.publish(v, "one")
	w.resetRequests()
	time.Sleep(2 * time.Second)
	if n := w.requests().Total; n != 0 {
		t.Fatalf("%d requests", n)
	}
}

// live takes a volume through its whole life.
func (w *world) live(name, server string) error {
	ctx := w.within(3 * time.Minute)
	created, err := w.CreateVolume(ctx, request(name, 1))
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	id := created.GetVolume().GetVolumeId()
	if _, err := w.ControllerPublishVolume(ctx, publishRequest(id, w.server(server))); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if _, err := w.ControllerExpandVolume(ctx, expandRequest(id, 2)); err != nil {
		return fmt.Errorf("expand: %w", err)
	}
	if _, err := w.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: w.server(server)}); err != nil {
		return fmt.Errorf("unpublish: %w", err)
	}
	if _, err := w.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

func TestFortyVolumesTwentyAtATimeOnFourServers(t *testing.T) {
	for name, latency := range map[string]devcloud.Latency{"fast": devcloud.Fast(), "realistic": devcloud.Realistic()} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, latency)
			if err := w.admin.SetQuotas(t.Context(), map[string]int64{"volumes": 100, "gigabytes": 1000}); err != nil {
				t.Fatal(err)
			}
			w.resetRequests()
			start := time.Now()
			names := make(chan int)
			var group sync.WaitGroup
			for range 20 {
				group.Go(func() {
					for n := range names {
						if err := w.live(fmt.Sprintf("pvc-%d", n), []string{"one", "two", "three", "four"}[n%4]); err != nil {
							t.Error(err)
						}
					}
				})
			}
			for n := range 40 {
				names <- n
			}
			close(names)
			group.Wait()
			spent := w.requests()
			t.Logf("%d requests in %v: %v", spent.Total, time.Since(start).Round(time.Millisecond), spent.Operations)
			if spent.Total > 360 {
				t.Errorf("%d requests, at most 360 are allowed", spent.Total)
			}
			if left := len(w.dump().Volumes); left != 0 {
				t.Errorf("%d volumes are left", left)
			}
		})
	}
}
