package controller_test

import (
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// What does not end by itself is answered at once: a worker of the attacher's that
// waits is missing to the pods of other servers.
func TestAServerThatNovaChangesNothingOnIsToldAtOnce(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	free, attached := w.create(request("pvc-1", 1)).GetVolumeId(), w.create(request("pvc-2", 1)).GetVolumeId()
	w.publish(attached, "one")
	node := w.server("one")
	for _, message := range []string{
		"Instance NODE is locked",
		"Cannot 'VERB' instance NODE while it is in vm_state error",
		"Cannot 'VERB' instance NODE while it is in vm_state rescued",
		"Cannot 'VERB' instance NODE while it is in vm_state soft-delete",
	} {
		t.Run(message, func(t *testing.T) {
			body := `{"conflictingRequest": {"code": 409, "message": "` + strings.ReplaceAll(message, "NODE", node) + `"}}`
			w.faults(
				admin.Fault{Operation: "attachment.create", Before: 409, Resource: node, Body: strings.ReplaceAll(body, "VERB", "attach_volume")},
				admin.Fault{Operation: "attachment.delete", Before: 409, Resource: node, Body: strings.ReplaceAll(body, "VERB", "detach_volume")},
			)
			w.resetRequests()
			begun := time.Now()
			_, err := w.ControllerPublishVolume(w.within(time.Minute), publishRequest(free, node))
			wantCode(t, err, codes.FailedPrecondition, free, node)
			_, err = w.ControllerUnpublishVolume(w.within(time.Minute), &csi.ControllerUnpublishVolumeRequest{VolumeId: attached, NodeId: node})
			wantCode(t, err, codes.FailedPrecondition, attached, node)
			if took := time.Since(begun); took > 5*time.Second || w.requests().Total > 4 {
				t.Errorf("took %v and %v", took, w.requests().Operations)
			}
			// What is attached already stays published.
			if _, err := w.ControllerPublishVolume(w.within(time.Minute), publishRequest(attached, node)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheNodeIsToldOfTheFirstPublicationOnly(t *testing.T) {
	const key = "cinder.csi.openstack.org/firstPublication"
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	before := time.Now()
	got := w.publish(v, "one")
	if at, err := time.Parse(time.RFC3339, got[key]); err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("first: %v", got)
	}
	if got := w.publish(v, "one"); got[key] != "" {
		t.Errorf("repeated: %v", got)
	}
	w.unpublish(v, "one")
	if got := w.publish(v, "two"); got[key] != "" {
		t.Errorf("on another node: %v", got)
	}
	if got := w.publish(w.foreign("pvc-2", "standard", nil), "one"); got[key] != "" {
		t.Errorf("of a volume that was made by hand: %v", got)
	}
}
