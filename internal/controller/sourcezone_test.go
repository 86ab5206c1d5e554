package controller_test

import (
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// among asks for the first of some zones, or else any of them.
func among(req *csi.CreateVolumeRequest, labels ...string) *csi.CreateVolumeRequest {
	req.AccessibilityRequirements = &csi.TopologyRequirement{}
	for _, label := range labels {
		topology := &csi.Topology{Segments: map[string]string{zone: label}}
		req.AccessibilityRequirements.Preferred = append(req.AccessibilityRequirements.Preferred, topology)
		req.AccessibilityRequirements.Requisite = append([]*csi.Topology{topology}, req.AccessibilityRequirements.Requisite...)
	}
	return req
}

func TestACopyIsMadeWhereItsSourceIs(t *testing.T) {
	w := newWorld(t, devcloud.Instant(), func(c *devcloud.Config, _ *controller.Config) {
		c.Servers = append(c.Servers, devcloud.Server{Name: "five", Zone: "az 1"}, devcloud.Server{Name: "six", Zone: "az2"})
	})
	original := w.create(inZone("original", "az-1")).GetVolumeId()
	snapshot := w.snapshot("snapshot", original).GetSnapshotId()
	for name, source := range map[string]*csi.VolumeContentSource{
		"clone":    {Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: original}}},
		"restored": {Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapshot}}},
	} {
		t.Run(name, func(t *testing.T) {
			req := among(request(name, 1), "az2", "az-1")
			req.VolumeContentSource = source
			w.resetRequests()
			made := w.create(req)
			reads := map[string]string{"clone": "", "restored": "snapshot.get:1 "}[name]
			if got, want := w.spentCreating(1, 1), reads+"volume.create:2 volume.get:1"; got != want {
				t.Errorf("requests %s, want %s", got, want)
			}
			for _, v := range []*csi.Volume{made, w.create(req)} {
				if got := v.GetAccessibleTopology()[0].GetSegments()[zone]; got != "az-1" {
					t.Errorf("usable in %q", got)
				}
			}
			if got := w.volumesNamed(name); len(got) != 1 || got[0].Zone != "az 1" {
				t.Errorf("made %+v", got)
			}

			// Only elsewhere: another node has to be chosen.
			req = among(request(name+"-elsewhere", 1), "az2")
			req.VolumeContentSource = source
			_, err := w.CreateVolume(w.within(time.Minute), req)
			wantCode(t, err, codes.ResourceExhausted, original, `az 1`, "az2")

			// The user says where, and is wrong.
			req = request(name+"-parameter", 1)
			req.VolumeContentSource, req.Parameters = source, map[string]string{"availability": "az2"}
			_, err = w.CreateVolume(w.within(time.Minute), req)
			wantCode(t, err, codes.InvalidArgument, "same availability zone")
			for _, never := range []string{name + "-elsewhere", name + "-parameter"} {
				if n := len(w.volumesNamed(never)); n != 0 {
					t.Errorf("%d volumes %s", n, never)
				}
			}
		})
	}
}
