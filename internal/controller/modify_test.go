package controller_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// modifyRequest asks for mutable parameters, given as key, value, key, value …
func modifyRequest(id string, pairs ...string) *csi.ControllerModifyVolumeRequest {
	req := &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: make(map[string]string)}
	for i := 0; i < len(pairs); i += 2 {
		req.MutableParameters[pairs[i]] = pairs[i+1]
	}
	return req
}

func (w *world) modify(id string, pairs ...string) error {
	_, err := w.ControllerModifyVolume(w.within(time.Minute), modifyRequest(id, pairs...))
	return err
}

// typeID returns the id of a volume type.
func (w *world) typeID(name string) string {
	w.Helper()
	types, err := w.client.ListVolumeTypes(context.WithoutCancel(w.Context()))
	if err != nil {
		w.Fatal(err)
	}
	for _, t := range types {
		if t.Name == name {
			return t.ID
		}
	}
	w.Fatalf("there is no type %s", name)
	return ""
}

// typed returns how many volumes of a name have a type.
func (w *world) typed(name, volumeType string) (n int) {
	id := w.typeID(volumeType)
	for _, v := range w.volumesNamed(name) {
		if v.TypeID == id {
			n++
		}
	}
	return n
}

func TestAVolumeGetsAnotherTypeAndMetadata(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	req := request("pvc-1", 1)
	req.Parameters = map[string]string{"type": "ssd"}
	req.MutableParameters = map[string]string{"type": "standard", "metadata/owner": "team a"}
	v := w.create(req).GetVolumeId()
	w.create(req)
	if w.typed("pvc-1", "standard") != 1 || w.volumesNamed("pvc-1")[0].Metadata["owner"] != "team a" {
		t.Fatalf("made %+v", w.volumesNamed("pvc-1"))
	}
	w.resetRequests()
	for _, step := range []struct {
		name  string
		pairs []string
		costs string
	}{
		{"on the same back end", []string{"type", "multiattach", "metadata/owner", "team b", "metadata/cost/centre", "7"}, "volume.metadata.update:1 volume.retype:1"},
		{"the same again", []string{"type", "multiattach", "metadata/owner", "team b"}, "volume.metadata.update:1 volume.retype:1"},
		{"by the id of the type", []string{"type", w.typeID("standard"), "migrationPolicy", "never"}, "volume.retype:1"},
		{"on another back end", []string{"TYPE", "ssd", "migrationPolicy", "on-demand"}, "volume.retype:1"},
		{"to nothing new", nil, ""},
	} {
		if err := w.modify(v, step.pairs...); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := w.spent(polls...); got != step.costs {
			t.Errorf("%s: %s, want %s", step.name, got, step.costs)
		}
	}
	if w.typed("pvc-1", "ssd") != 1 {
		t.Error("it has another type")
	}
	if m := w.volumesNamed("pvc-1")[0].Metadata; m["owner"] != "team b" || m["cost/centre"] != "7" || m["cinder.csi.openstack.org/cluster"] != "test" {
		t.Errorf("metadata %v", m)
	}
	w.publish(v, "one")
	if err := w.modify(v, "type", "standard", "migrationPolicy", "on-demand"); err != nil || w.typed("pvc-1", "standard") != 1 {
		t.Errorf("attached: %v", err)
	}
}

func TestATypeThatCinderSilentlyKeepsIsTold(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	for range 2 {
		err := w.modify(v, "type", "ssd", "metadata/owner", "team a")
		wantCode(t, err, codes.InvalidArgument, "still has type", "on-demand")
	}
	if _, changed := w.volumesNamed("pvc-1")[0].Metadata["owner"]; changed {
		t.Error("the metadata has changed all the same")
	}
}

func TestModifyRefusals(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	before := w.volumesNamed("pvc-1")[0]
	for name, test := range map[string]struct {
		id    string
		pairs []string
		code  codes.Code
		says  string
	}{
		"no volume":                {"", []string{"type", "ssd"}, codes.InvalidArgument, "volume_id"},
		"a volume that is missing": {missingID, []string{"type", "standard"}, codes.NotFound, missingID},
		"metadata of what is gone": {missingID, []string{"metadata/a", "b"}, codes.NotFound, missingID},
		"nothing of what is gone":  {missingID, nil, codes.NotFound, missingID},
		"an odd id":                {"pvc-1", []string{"type", "standard"}, codes.NotFound, "pvc-1"},
		"an unknown parameter":     {v, []string{"iops", "5000", "type", "standard"}, codes.InvalidArgument, `"iops" is unknown`},
		"an unknown policy":        {v, []string{"migrationPolicy", "maybe"}, codes.InvalidArgument, "never and on-demand"},
		"an unknown type":          {v, []string{"type", "gold"}, codes.InvalidArgument, "gold"},
		"the id of no type":        {v, []string{"type", missingID}, codes.InvalidArgument, missingID},
		"metadata without a key":   {v, []string{"metadata/", "x"}, codes.InvalidArgument, "empty"},
		"metadata of the driver":   {v, []string{"metadata/cinder.csi.openstack.org/cluster", "x"}, codes.InvalidArgument, "driver's own"},
		"metadata of Cinder":       {v, []string{"metadata/readonly", "True"}, codes.InvalidArgument, "Cinder's own"},
		"too long metadata":        {v, []string{"metadata/x", strings.Repeat("ä", 256)}, codes.InvalidArgument, "255"},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, w.modify(test.id, test.pairs...), test.code, test.says)
		})
	}
	after := w.volumesNamed("pvc-1")[0]
	if after.TypeID != before.TypeID || len(after.Metadata) != len(before.Metadata) {
		t.Errorf("it has changed: %+v", after)
	}
}

func TestInvalidArgumentIsNotSaidOnceSomethingHasChanged(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	w.faults(admin.Fault{Operation: "volume.metadata.update", Before: http.StatusBadRequest})
	for range 2 {
		wantCode(t, w.modify(v, "type", "standard", "metadata/a", "b"), codes.FailedPrecondition, "not the metadata")
	}
	wantCode(t, w.modify(v, "metadata/a", "b"), codes.InvalidArgument)
	if w.typed("pvc-1", "standard") != 1 {
		t.Error("the type has not changed")
	}
}

func TestAChangeOfTypeThatIsUnderWayIsWaitedFor(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	w.faults(admin.Fault{Operation: "volume.retype", Stuck: true, Times: 1})
	_, err := w.ControllerModifyVolume(w.within(300*time.Millisecond), modifyRequest(v, "type", "standard"))
	wantCode(t, err, codes.DeadlineExceeded)
	time.AfterFunc(200*time.Millisecond, func() { _ = w.admin.ClearFaults(context.Background()) })
	if err := w.modify(v, "type", "standard"); err != nil || w.typed("pvc-1", "standard") != 1 {
		t.Errorf("the same: %v", err)
	}
}
