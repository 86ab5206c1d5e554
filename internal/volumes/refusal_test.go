package volumes_test

import (
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

// refused is a world in which a volume that is on another server has been
// refused to the first one, so often that the pause is some seconds long.
func refused(t *testing.T, test func(w *world, id, other string)) {
	in(t, func(w *world) {
		v, other := w.create(volumes.CreateRequest{Name: "pvc-1"}), w.cloud.AddServer("other")
		w.attach(v.ID, other)
		for pause := 200 * time.Millisecond; pause < 10*time.Second; pause *= 2 {
			time.Sleep(pause)
			_, err := w.service.Attach(w.Context(), v.ID, w.server)
			w.wantError(err, volumes.ErrAttachedElsewhere)
		}
		w.cloud.Requests()
		test(w, v.ID, other)
	})
}

func TestARefusalIsRepeatedForAMomentWithoutAsking(t *testing.T) {
	refused(t, func(w *world, id, other string) {
		_, err := w.service.Attach(w.Context(), id, w.server)
		w.wantError(err, volumes.ErrAttachedElsewhere, other, "not asked again")
		if asked := w.cloud.Requests(); len(asked) != 0 {
			t.Errorf("the cloud was asked: %v", asked)
		}
	})
}

func TestACallerThatPausesAsTheAttacherDoesIsNeverHeldUp(t *testing.T) {
	in(t, func(w *world) {
		v, other := w.create(volumes.CreateRequest{Name: "pvc-1"}), w.cloud.AddServer("other")
		w.attach(v.ID, other)
		for pause := time.Second; pause < time.Hour; pause *= 2 {
			w.cloud.Requests()
			_, err := w.service.Attach(w.Context(), v.ID, w.server)
			w.wantError(err, volumes.ErrAttachedElsewhere)
			if asked := w.cloud.Requests()["attachment.create"]; asked != 1 {
				t.Fatalf("before a pause of %v the cloud was asked %d times", pause, asked)
			}
			time.Sleep(min(pause, 5*time.Minute))
		}
	})
}

func TestARefusalIsForgottenWhenItsReasonMayBeGone(t *testing.T) {
	for name, change := range map[string]func(w *world, id, other string) error{
		"when the volume is detached from the other server": func(w *world, id, other string) error {
			return w.service.Detach(w.within(time.Minute), id, other)
		},
		"when something is detached from this server": func(w *world, id, other string) error {
			w.cloud.DeleteServer(other, false)
			return w.service.Detach(w.within(time.Minute), w.create(volumes.CreateRequest{Name: "pvc-2"}).ID, w.server)
		},
		"when the opposite was asked for meanwhile": func(w *world, id, other string) error {
			w.cloud.DeleteServer(other, false)
			return w.service.Detach(w.within(time.Minute), id, w.server)
		},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, func(w *world, id, other string) {
				if err := change(w, id, other); err != nil {
					t.Fatal(err)
				}
				w.attach(id, w.server)
			})
		})
	}
}

func TestWhatIsNotARefusalIsAskedAgainAtOnce(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.cloud.SetFault(cloudtest.Fault{Op: "attachment.create", Times: 1, Err: cloud.ErrUnavailable})
		if _, err := w.service.Attach(w.within(time.Minute), v.ID, w.server); err == nil {
			t.Fatal("attached in spite of the fault")
		}
		w.attach(v.ID, w.server)
	})
}
