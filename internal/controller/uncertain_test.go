package controller_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// The first call may have made something. Where the second may not look for it,
// a final code would make the sidecar forget it.
func TestALookUpThatIsRefusedEndsNothing(t *testing.T) {
	for _, refusal := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusNotAcceptable, http.StatusConflict, http.StatusRequestEntityTooLarge} {
		t.Run(http.StatusText(refusal), func(t *testing.T) {
			w := newWorld(t, devcloud.Fast())
			source := w.create(request("source", 1)).GetVolumeId()
			for what, call := range map[string]func() error{
				"volume": func() error {
					_, err := w.CreateVolume(w.within(time.Minute), request("pvc-1", 1))
					return err
				},
				"snapshot": func() error {
					_, err := w.CreateSnapshot(w.within(time.Minute), &csi.CreateSnapshotRequest{Name: "snap", SourceVolumeId: source})
					return err
				},
				"backup": func() error {
					_, err := w.CreateSnapshot(w.within(time.Minute), &csi.CreateSnapshotRequest{Name: "back", SourceVolumeId: source, Parameters: map[string]string{"type": "backup"}})
					return err
				},
			} {
				if what == "backup" && (refusal == http.StatusNotFound || refusal == http.StatusNotAcceptable) {
					continue // the cloud has no backups
				}
				w.faults(admin.Fault{Operation: what + ".create", Times: 1, Drop: true}, admin.Fault{Operation: what + ".list", Skip: 1, Before: refusal})
				for n := range 2 {
					if err := call(); !slices.Contains(again, status.Code(err)) {
						t.Errorf("%s, call %d: got %v", what, n+1, err)
					}
				}
				w.faults()
				if err := call(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// Some clouds do not let projects read messages. Why a volume failed is not
// known there, and yet it must not be in the way for ever.
func TestAVolumeThatFailsIsMadeAnewWhereNobodyMayKnowWhy(t *testing.T) {
	for _, refusal := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusNotImplemented} {
		t.Run(http.StatusText(refusal), func(t *testing.T) {
			w := newWorld(t, devcloud.Fast())
			w.faults(admin.Fault{Operation: "message.list", Before: refusal}, admin.Fault{Operation: "volume.create", Times: 1, EndIn: "error"})
			_, err := w.CreateVolume(w.within(time.Minute), request("pvc-1", 1))
			wantCode(t, err, codes.Aborted)
			w.create(request("pvc-1", 1))
			if n := len(w.volumesNamed("pvc-1")); n != 1 {
				t.Errorf("%d volumes", n)
			}
		})
	}
}

// A copy of what is broken is never made: the provisioner has to hear that it is
// over, or it asks for ever, also when the claim is gone.
func TestACopyOfWhatIsBrokenIsRefusedForGood(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	source := w.create(request("source", 1)).GetVolumeId()
	req := request("clone", 1)
	req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: source}}}
	for state, want := range map[string]codes.Code{"error": codes.FailedPrecondition, "error_extending": codes.FailedPrecondition, "extending": codes.Aborted} {
		w.resetStatus(source, state)
		_, err := w.CreateVolume(w.within(10*time.Second), req)
		wantCode(t, err, want, source, state)
	}
	w.resetStatus(source, "available")
	w.create(req)
}

// Only the limit of disks of a server may end in ResourceExhausted: the kubelet
// gives a pod up for it.
func TestOnlyAFullServerIsToldAsExhausted(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	for _, fault := range []admin.Fault{
		{Before: http.StatusRequestEntityTooLarge},
		{Before: http.StatusRequestEntityTooLarge, Body: `{"overLimit": {"code": 413, "message": "This request was rate-limited.", "retryAfter": "0"}}`},
		{Before: http.StatusForbidden, Body: `{"forbidden": {"code": 403, "message": "Quota exceeded for volumes"}}`},
	} {
		fault.Operation, fault.Times = "attachment.create", 1
		w.faults(fault)
		_, err := w.ControllerPublishVolume(w.within(time.Minute), publishRequest(v, w.server("one")))
		if status.Code(err) == codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
	}
}
