package volumes_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

func TestDeleteReturnsWhenTheVolumeIsGone(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.cloud.Requests()
		if err := w.service.Delete(w.Context(), v.ID); err != nil {
			t.Fatal(err)
		}
		if n := len(w.cloud.Volumes()); n != 0 {
			t.Fatalf("%d volumes are left", n)
		}
		if got := w.spent("volume.get"); got != "volume.delete:1" {
			t.Fatalf("requests: %s", got)
		}
		for _, id := range []string{v.ID, uuid.NewString(), "odd", ""} {
			if err := w.service.Delete(w.Context(), id); err != nil {
				t.Fatalf("deleting %q: %v", id, err)
			}
		}
	})
}

func TestDeleteOfWhatCinderKeeps(t *testing.T) {
	cases := map[string]struct {
		prepare func(w *world, id string)
		want    error
		words   string
	}{
		"an attached volume": {func(w *world, id string) { w.attach(id, w.server) }, volumes.ErrAttached, "detach it first"},
		"a volume with snapshots": {func(w *world, id string) {
			for _, name := range []string{"a", "b"} {
				if _, err := w.service.CreateSnapshot(w.Context(), volumes.SnapshotRequest{Name: name, VolumeID: id}); err != nil {
					w.Fatal(err)
				}
			}
		}, volumes.ErrHasSnapshots, ": 2,"},
		"a volume that Cinder fails to delete": {func(w *world, _ string) {
			w.cloud.SetFault(cloudtest.Fault{Op: "volume.delete", Outcome: "error_deleting", Cause: "delete volume:busy"})
		}, volumes.ErrState, "delete volume:busy"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				c.prepare(w, v.ID)
				w.wantError(w.service.Delete(w.Context(), v.ID), c.want, c.words)
				w.get(v.ID)
			})
		})
	}
}

func TestDeleteWithoutAnAnswer(t *testing.T) {
	for name, acted := range map[string]bool{"when Cinder has acted": true, "when Cinder has not acted": false} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				w.cloud.SetFault(cloudtest.Fault{Op: "volume.delete", Times: 1, After: acted, Err: unavailable})
				err := w.service.Delete(w.Context(), v.ID)
				if !acted {
					w.wantError(err, volumes.ErrUnfinished)
					err = w.service.Delete(w.Context(), v.ID)
				}
				if err != nil || len(w.cloud.Volumes()) != 0 {
					t.Fatalf("%v, %d volumes are left", err, len(w.cloud.Volumes()))
				}
			})
		})
	}
}

func TestDeleteOfAVolumeThatIsBeingCreatedWaits(t *testing.T) {
	in(t, func(w *world) {
		v, err := w.cloud.CreateVolume(w.Context(), cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.service.Delete(w.within(time.Minute), v.ID); err != nil {
			t.Fatal(err)
		}
	})
}

func TestExtend(t *testing.T) {
	for name, attached := range map[string]bool{"of an attached volume": true, "of a free volume": false} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				if attached {
					w.attach(v.ID, w.server)
				}
				w.cloud.Requests()
				size, err := w.service.Extend(w.Context(), v.ID, 3)
				if err != nil || size != 3 || w.get(v.ID).SizeGiB != 3 {
					t.Fatalf("got %d, %v", size, err)
				}
				if got := w.spent("volume.get"); got != "volume.extend:1" {
					t.Fatalf("requests: %s", got)
				}
				for _, less := range []int64{3, 2} {
					size, err = w.service.Extend(w.Context(), v.ID, less)
					if err != nil || size != 3 {
						t.Fatalf("to %d: got %d, %v", less, size, err)
					}
				}
			})
		})
	}
}

func TestExtendThatFails(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.cloud.QuotaGiB = 5
		_, err := w.service.Extend(w.Context(), v.ID, 6)
		w.wantError(err, cloud.ErrQuota)
		_, err = w.service.Extend(w.Context(), uuid.NewString(), 6)
		w.wantError(err, cloud.ErrNotFound)
		_, err = w.service.Extend(w.Context(), "odd", 6)
		w.wantError(err, cloud.ErrNotFound)
		w.cloud.SetFault(cloudtest.Fault{Op: "volume.extend", Times: 1, Outcome: "error_extending", Cause: "extend volume:failed"})
		for range 2 {
			_, err = w.service.Extend(w.Context(), v.ID, 2)
			w.wantError(err, volumes.ErrState, "extend volume:failed")
		}
	})
}

func TestExtendWithoutAnAnswer(t *testing.T) {
	for name, acted := range map[string]bool{"when Cinder has acted": true, "when Cinder has not acted": false} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				w.cloud.SetFault(cloudtest.Fault{Op: "volume.extend", Times: 1, After: acted, Err: unavailable})
				size, err := w.service.Extend(w.Context(), v.ID, 2)
				if !acted {
					w.wantError(err, volumes.ErrUnfinished)
					size, err = w.service.Extend(w.Context(), v.ID, 2)
				}
				if err != nil || size != 2 {
					t.Fatalf("got %d, %v", size, err)
				}
			})
		})
	}
}

func TestExtendOfAnOldCloudTellsWhatItNeeds(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.cloud.SetFault(cloudtest.Fault{Op: "volume.extend", Times: 1, Err: cloud.ErrUnsupported})
		if size, err := w.service.Extend(w.Context(), v.ID, 2); err != nil || size != 2 {
			t.Fatalf("free: got %d, %v", size, err)
		}
		w.attach(v.ID, w.server)
		w.cloud.SetFault(cloudtest.Fault{Op: "volume.extend", Times: 1, Err: cloud.ErrUnsupported})
		_, err := w.service.Extend(w.Context(), v.ID, 3)
		w.wantError(err, cloud.ErrUnsupported, "attached")
	})
}
