package volumes_test

import (
	"context"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

// fallback is a cloud that makes volumes for unknown zones in zone a.
func fallback(t *testing.T, test func(w *world)) {
	in(t, func(w *world) {
		w.cloud.ZoneNames, w.cloud.ZoneFallback = []string{"a", "room 1: left"}, true
		test(w)
	})
}

func (w *world) wantVolumes(n int) {
	w.Helper()
	if have := w.cloud.Volumes(); len(have) != n {
		w.Fatalf("%d volumes: %+v", len(have), have)
	}
	w.wantNoOrphans()
}

// wantNoOrphans checks that nothing was deleted so early that the back end has
// made it for nobody.
func (w *world) wantNoOrphans() {
	w.Helper()
	if n := w.cloud.Orphans(); n != 0 {
		w.Fatalf("%d volumes are left on the back end that Cinder knows nothing of", n)
	}
}

func TestCreateTakesBackAVolumeThatTheCloudPutIntoAnotherZone(t *testing.T) {
	fallback(t, func(w *world) {
		for range 2 {
			_, err := w.service.Create(w.within(time.Minute), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Zone: "mars"})
			w.wantError(err, volumes.ErrNoCapacity, `"mars"`, `"a"`)
			w.wantVolumes(0)
		}
		// The scheduler has chosen another zone meanwhile.
		if v := w.create(volumes.CreateRequest{Name: "pvc-1", Zone: "a"}); v.Zone != "a" {
			t.Fatalf("made in %s", v.Zone)
		}
	})
}

func TestCreateUnderstandsLabelsOfZonesAlsoWhereTheCloudRefusesNone(t *testing.T) {
	fallback(t, func(w *world) {
		if v := w.create(volumes.CreateRequest{Name: "pvc-1", Zone: "room-1-left"}); v.Zone != "room 1: left" {
			t.Fatalf("made in %s", v.Zone)
		}
		w.wantVolumes(1)
	})
}

func TestCreateIsContentWithAnyZoneThatWillDo(t *testing.T) {
	fallback(t, func(w *world) {
		w.create(volumes.CreateRequest{Name: "pvc-1", Zone: "mars", AcceptZones: []string{"mars", "a"}})
		w.create(volumes.CreateRequest{Name: "pvc-2", Zone: "mars", AnyZone: true})
		w.wantVolumes(2)
	})
}

func TestCreateTakesAMisplacedVolumeBackAlsoWhenTheAnswerWasLost(t *testing.T) {
	fallback(t, func(w *world) {
		w.cloud.SetFault(cloudtest.Fault{Op: "volume.create", Times: 1, After: true, Err: unavailable})
		_, err := w.service.Create(w.within(time.Minute), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Zone: "mars"})
		w.wantError(err, volumes.ErrNoCapacity)
		w.wantVolumes(0)
	})
}

func TestAnInterruptedTakingBackIsCarriedOn(t *testing.T) {
	fallback(t, func(w *world) {
		w.cloud.Latency.Create = 10 * time.Second
		req := volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Zone: "mars"}
		_, err := w.service.Create(w.within(time.Second), req)
		w.wantError(err, context.DeadlineExceeded)
		_, err = w.service.Create(w.within(time.Minute), req)
		w.wantError(err, volumes.ErrNoCapacity)
		w.wantVolumes(0)
	})
}

func TestAVolumeThatMayHaveBeenUsableIsNeverTakenBack(t *testing.T) {
	tag := map[string]string{volumes.ClusterKey: cluster}
	for name, v := range map[string]cloud.Volume{
		"finished in another zone":     {Status: cloud.VolumeAvailable, Zone: "a"},
		"in use in another zone":       {Status: cloud.VolumeInUse, Zone: "a"},
		"failed later in another zone": {Status: cloud.VolumeError, Zone: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			fallback(t, func(w *world) {
				v.Name, v.SizeGiB, v.Metadata = "pvc-1", 1, tag
				w.cloud.Add(v)
				_, err := w.service.Create(w.within(time.Minute), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Zone: "mars"})
				w.wantError(err, volumes.ErrExists, "zone")
				w.wantVolumes(1)
			})
		})
	}
	t.Run("being made in a zone that an earlier request named", func(t *testing.T) {
		fallback(t, func(w *world) {
			w.cloud.Add(cloud.Volume{Name: "pvc-1", SizeGiB: 1, Metadata: tag, Status: cloud.VolumeCreating, Zone: "a"})
			_, err := w.service.Create(w.within(time.Minute), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Zone: "room 1: left"})
			w.wantError(err, volumes.ErrExists, "zone")
			w.wantVolumes(1)
		})
	})
}
