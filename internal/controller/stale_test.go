package controller_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/controller/controllertest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// impatient makes the service look for stale attachments soon.
func (w *world) impatient() {
	w.Helper()
	service := volumes.New(connect(w.T, w.cloud), volumes.Options{Cluster: "test", StaleWait: 300 * time.Millisecond})
	w.Server = controller.New(controller.Config{
		Source: controllertest.Clouds{"": service}, WithTopology: true,
	})
}

// leaveReserved has an attachment to server one fail in such a way that the
// volume stays reserved for it.
func (w *world) leaveReserved() string {
	w.Helper()
	id := w.create(request("pvc-1", 1)).GetVolumeId()
	w.faults(admin.Fault{Operation: "attachment.create", Times: 1, EndIn: "reserved"})
	_, err := w.ControllerPublishVolume(w.within(700*time.Millisecond), publishRequest(id, w.server("one")))
	wantCode(w.T, err, codes.DeadlineExceeded)
	w.faults()
	return id
}

// unpublishing asks again for as long as it is told to, as the attacher does.
func (w *world) unpublishing(id, node string) error {
	for ctx := w.within(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, err := w.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: node})
		if status.Code(err) != codes.Aborted {
			return err
		}
	}
}

func TestAFailedAttachmentThatStaysReservedIsRecovered(t *testing.T) {
	for name, mend := range map[string]func(w *world, id string){
		"by publishing it again":     func(w *world, id string) { w.publish(id, "one") },
		"by publishing it elsewhere": func(w *world, id string) { w.publish(id, "two") },
		"by unpublishing it": func(w *world, id string) {
			if err := w.unpublishing(id, w.server("one")); err != nil {
				w.Fatal(err)
			}
			w.publish(id, "one")
		},
		"by deleting its server and publishing it elsewhere": func(w *world, id string) {
			if err := w.admin.DeleteServer(w.Context(), "one"); err != nil {
				w.Fatal(err)
			}
			w.publish(id, "two")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, devcloud.Fast())
			w.impatient()
			id := w.leaveReserved()
			mend(w, id)
			if got := w.attachments("pvc-1"); got != 1 {
				t.Errorf("%d attachments", got)
			}
			w.unpublish(id, "")
			if v := w.volumesNamed("pvc-1")[0]; v.Status != "available" || len(v.Attachments) != 0 {
				t.Errorf("status %s, attachments %+v", v.Status, v.Attachments)
			}
			w.remove(id)
		})
	}
}

// Cinder takes a moment to notice that a server is gone.
func TestPublishingToAServerThatIsGoneIsNotFoundAtOnce(t *testing.T) {
	model := devcloud.Fast()
	model.Steps["server.deleting"] = latency.Distribution{Min: 2 * time.Second}
	w := newWorld(t, model)
	id, server := w.create(request("pvc-1", 1)).GetVolumeId(), w.server("one")
	w.publish(id, "one")
	if err := w.admin.DeleteServer(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	_, err := w.ControllerPublishVolume(w.within(time.Minute), publishRequest(id, server))
	wantCode(t, err, codes.NotFound, server)
	if err := w.unpublishing(id, server); err != nil {
		t.Fatal(err)
	}
	w.remove(id)
}

func TestAVolumeThatStaysReservedIsDeleted(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	w.impatient()
	id := w.leaveReserved()
	_, err := w.DeleteVolume(w.within(10*time.Second), &csi.DeleteVolumeRequest{VolumeId: id})
	if err != nil || len(w.volumesNamed("pvc-1")) != 0 {
		t.Fatalf("got %v, and %d are left", err, len(w.volumesNamed("pvc-1")))
	}
}

func TestACindersRefusalToForgetAnAttachmentTellsWhatToDo(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault admin.Fault
		says  []string
	}{
		{
			"Nova uses it", admin.Fault{Before: http.StatusConflict, Body: `{"conflictingRequest": {"code": 409, "message": "ConflictNovaUsingAttachment: Detach volume from instance S using the Compute API"}}`},
			[]string{"ConflictNovaUsingAttachment", "openstack server remove volume"},
		},
		{
			"a token that Cinder can't ask Nova with", admin.Fault{Before: http.StatusInternalServerError},
			[]string{"application credential", "volume attachment delete"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, devcloud.Fast())
			w.impatient()
			id := w.leaveReserved()
			test.fault.Operation = "cinder-attachment.delete"
			w.faults(test.fault)
			wantCode(t, w.unpublishing(id, w.server("one")), codes.FailedPrecondition, test.says...)
			_, err := w.ControllerPublishVolume(w.within(time.Minute), publishRequest(id, w.server("two")))
			wantCode(t, err, codes.FailedPrecondition, test.says...)
			w.faults()
			// What was refused is not tried again at once.
			for deadline := time.Now().Add(20 * time.Second); err != nil; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal(err)
				}
				_, err = w.ControllerPublishVolume(w.within(time.Minute), publishRequest(id, w.server("two")))
			}
		})
	}
}

func TestAnAttachmentThatOutlivesItsServerIsRecovered(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	w.impatient()
	id, node := w.create(request("pvc-1", 1)).GetVolumeId(), w.server("one")
	w.publish(id, "one")
	slow := devcloud.Fast()
	slow.Steps["server.deleting"] = latency.Distribution{Min: time.Hour, Median: time.Hour, P99: time.Hour}
	if err := w.admin.SetLatency(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	if err := w.admin.DeleteServer(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if err := w.unpublishing(id, node); err != nil {
		t.Fatal(err)
	}
	w.publish(id, "two")
}

func TestWhatNovaIsStillWorkingOnIsLeftAlone(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	w.impatient()
	id := w.create(request("pvc-1", 1)).GetVolumeId()
	w.faults(admin.Fault{Operation: "attachment.create", Times: 1, Stuck: true})
	_, err := w.ControllerPublishVolume(w.within(500*time.Millisecond), publishRequest(id, w.server("one")))
	wantCode(t, err, codes.DeadlineExceeded)
	_, err = w.ControllerPublishVolume(w.within(time.Second), publishRequest(id, w.server("two")))
	wantCode(t, err, codes.DeadlineExceeded)
	wantCode(t, w.unpublishing(id, ""), codes.OK)
	if n := w.requests().Count("cinder-attachment.delete"); n != 0 {
		t.Errorf("%d attachments were deleted", n)
	}
	w.faults()
	w.publish(id, "one")
}

func TestAReservedVolumeWithoutAnAttachmentNeedsAnAdministrator(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	w.impatient()
	id := w.create(request("pvc-1", 1)).GetVolumeId()
	w.resetStatus(id, "reserved")
	_, err := w.ControllerPublishVolume(w.within(time.Minute), publishRequest(id, w.server("one")))
	wantCode(t, err, codes.FailedPrecondition, "openstack volume set --state available "+id)
	if err := w.unpublishing(id, w.server("one")); err != nil {
		t.Error(err)
	}
	w.resetStatus(id, "available")
	w.publish(id, "one")
}
