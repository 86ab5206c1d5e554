package controller_test

import (
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

func TestAVolumeIsCreatedAndDescribedTheSameWayTwice(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	req := request("pvc-1", 0)
	req.CapacityRange = &csi.CapacityRange{RequiredBytes: 2*gib + 1, LimitBytes: 3 * gib}
	req.Parameters = map[string]string{
		"Type": "standard", "csi.storage.k8s.io/pvc/name": "claim", "csi.storage.k8s.io/pvc/namespace": "space",
		"csi.storage.k8s.io/pv/name": "pvc-1", "csi.storage.k8s.io/fstype": "xfs",
	}
	req.AccessibilityRequirements = &csi.TopologyRequirement{
		Requisite: []*csi.Topology{{Segments: map[string]string{zone: "nova"}}},
		Preferred: []*csi.Topology{{Segments: map[string]string{zone: "nova"}}},
	}
	first, again := w.create(req), w.create(req)
	want := &csi.Volume{
		VolumeId: first.GetVolumeId(), CapacityBytes: 3 * gib,
		AccessibleTopology: []*csi.Topology{{Segments: map[string]string{zone: "nova"}}},
	}
	for _, got := range []*csi.Volume{first, again} {
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Fatal(diff)
		}
	}
	made := w.dump().Volumes
	if len(made) != 1 || *made[0].Name != "pvc-1" || *made[0].Description != "Created by OpenStack Cinder CSI driver" {
		t.Fatalf("Cinder has %+v", made)
	}
	metadata := map[string]string{
		"cinder.csi.openstack.org/cluster": "test", "cinder.csi.openstack.org/never-published": "true", "csi.storage.k8s.io/pvc/name": "claim",
		"csi.storage.k8s.io/pvc/namespace": "space", "csi.storage.k8s.io/pv/name": "pvc-1",
	}
	if diff := cmp.Diff(metadata, made[0].Metadata); diff != "" {
		t.Fatal(diff)
	}
}

func TestCopiesTellTheNodeToGrowTheFilesystem(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	origin := w.create(request("origin", 1))
	snapshot := w.snapshot("snap", origin.GetVolumeId())
	sources := map[string]*csi.VolumeContentSource{
		"a snapshot": {Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapshot.GetSnapshotId()}}},
		"a volume":   {Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: origin.GetVolumeId()}}},
	}
	for name, source := range sources {
		req := request("copy of "+name, 3)
		req.VolumeContentSource = source
		for range 2 {
			v := w.create(req)
			if v.GetCapacityBytes() != 3*gib || v.GetVolumeContext()["cinder.csi.openstack.org/resizeRequired"] != "true" {
				t.Fatalf("from %s: %v", name, v)
			}
			if diff := cmp.Diff(source, v.GetContentSource(), protocmp.Transform()); diff != "" {
				t.Fatal(diff)
			}
		}
	}
}

func TestCreateVolumeRefusals(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	w.create(request("taken", 1))
	change := func(change func(*csi.CreateVolumeRequest)) *csi.CreateVolumeRequest {
		req := request("new", 1)
		change(req)
		return req
	}
	snapshotSource := func(id string) *csi.VolumeContentSource {
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
	}
	cases := map[string]struct {
		req   *csi.CreateVolumeRequest
		code  codes.Code
		words string
	}{
		"no name":       {change(func(r *csi.CreateVolumeRequest) { r.Name = "" }), codes.InvalidArgument, "name"},
		"too long name": {change(func(r *csi.CreateVolumeRequest) { r.Name = strings.Repeat("ä", 256) }), codes.InvalidArgument, "255"},
		"no capability": {change(func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = nil }), codes.InvalidArgument, "volume_capabilities"},
		"a filesystem for writers on two nodes": {change(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities = []*csi.VolumeCapability{capability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)}
		}), codes.InvalidArgument, "loses its content"},
		"two nodes on a type for one": {change(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities = []*csi.VolumeCapability{blockCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)}
		}), codes.InvalidArgument, "multiattach"},
		"an unknown parameter": {change(func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{"fast": "yes"} }), codes.InvalidArgument, `"fast" is unknown; there are type, availability`},
		"a parameter twice":    {change(func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{"type": "a", "TYPE": "b"} }), codes.InvalidArgument, "twice"},
		"an unknown type":      {change(func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{"type": "nope"} }), codes.InvalidArgument, "nope"},
		"an unknown zone":      {change(func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{"availability": "mars"} }), codes.InvalidArgument, "mars"},
		"an unknown cloud":     {change(func(r *csi.CreateVolumeRequest) { r.Secrets = map[string]string{"cloud": "nine"} }), codes.InvalidArgument, "nine"},
		"mutable parameters":   {change(func(r *csi.CreateVolumeRequest) { r.MutableParameters = map[string]string{"x": "y"} }), codes.InvalidArgument, "mutable"},
		"less than nothing":    {change(func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = -1 }), codes.InvalidArgument, "negative"},
		"nothing between the limits": {change(func(r *csi.CreateVolumeRequest) {
			r.CapacityRange = &csi.CapacityRange{RequiredBytes: gib + 1, LimitBytes: gib + 2}
		}), codes.OutOfRange, "whole number of GiB"},
		"a taken name":             {request("taken", 2), codes.AlreadyExists, "size"},
		"no such snapshot":         {change(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = snapshotSource(uuid.NewString()) }), codes.NotFound, "snapshot"},
		"an odd snapshot":          {change(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = snapshotSource("odd") }), codes.NotFound, "snapshot"},
		"a source without an id":   {change(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = snapshotSource("") }), codes.InvalidArgument, "content source"},
		"a type without a backend": {change(func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{"type": "nobackend"} }), codes.ResourceExhausted, "weighted backend"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := w.CreateVolume(w.within(time.Minute), c.req)
			wantCode(t, err, c.code, c.words)
			if n := len(w.dump().Volumes); n != 1 {
				t.Fatalf("%d volumes exist", n)
			}
		})
	}
}

func TestQuotasAreTold(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	v := w.create(request("pvc-1", 1))
	if err := w.admin.SetQuotas(t.Context(), map[string]int64{"gigabytes": 2}); err != nil {
		t.Fatal(err)
	}
	_, err := w.CreateVolume(w.within(time.Minute), request("pvc-2", 2))
	wantCode(t, err, codes.ResourceExhausted, "quota")
	_, err = w.ControllerExpandVolume(w.within(time.Minute), expandRequest(v.GetVolumeId(), 5))
	wantCode(t, err, codes.OutOfRange, "quota")
}

func TestAVolumeIsPublishedAndUnpublished(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	for range 2 {
		if device := w.publish(v, "one")["DevicePath"]; !strings.HasPrefix(device, "/dev/") {
			t.Fatalf("device %q", device)
		}
	}
	_, err := w.ControllerPublishVolume(w.within(time.Minute), publishRequest(v, w.server("two")))
	wantCode(t, err, codes.FailedPrecondition, w.server("one"))
	_, err = w.DeleteVolume(w.within(time.Minute), &csi.DeleteVolumeRequest{VolumeId: v})
	wantCode(t, err, codes.FailedPrecondition, "detach")
	got, err := w.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: v})
	if err != nil || len(got.GetStatus().GetPublishedNodeIds()) != 1 || got.GetStatus().GetPublishedNodeIds()[0] != w.server("one") {
		t.Fatalf("got %v, %v", got, err)
	}
	for range 2 {
		w.unpublish(v, "one")
	}
	w.publish(v, "two")
	w.unpublish(v, "")
	for range 2 {
		w.remove(v)
	}
}

func TestPublishRefusals(t *testing.T) {
	w := newWorld(t, devcloud.Instant(), func(c *devcloud.Config, _ *controller.Config) {
		c.Behaviour = &devcloud.Behaviour{MaxDisks: 2}
	})
	v, second := w.create(request("pvc-1", 1)).GetVolumeId(), w.create(request("pvc-2", 1)).GetVolumeId()
	w.publish(second, "one")
	cases := map[string]struct {
		req  *csi.ControllerPublishVolumeRequest
		code codes.Code
	}{
		"no volume id":      {publishRequest("", "x"), codes.InvalidArgument},
		"no node id":        {publishRequest(v, ""), codes.InvalidArgument},
		"no capability":     {&csi.ControllerPublishVolumeRequest{VolumeId: v, NodeId: "x"}, codes.InvalidArgument},
		"no such volume":    {publishRequest(uuid.NewString(), w.server("two")), codes.NotFound},
		"no such node":      {publishRequest(v, uuid.NewString()), codes.NotFound},
		"an odd volume":     {publishRequest("odd", w.server("two")), codes.NotFound},
		"an odd node":       {publishRequest(v, "node-1"), codes.NotFound},
		"one disk too many": {publishRequest(v, w.server("one")), codes.ResourceExhausted},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := w.ControllerPublishVolume(w.within(time.Minute), c.req)
			wantCode(t, err, c.code)
		})
	}
}

func TestRawBlockVolumesServeSeveralNodes(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	req := request("pvc-1", 1)
	req.Parameters = map[string]string{"type": "multiattach"}
	req.VolumeCapabilities = []*csi.VolumeCapability{blockCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)}
	v := w.create(req).GetVolumeId()
	for _, server := range []string{"one", "two", "one"} {
		publish := publishRequest(v, w.server(server))
		publish.VolumeCapability = req.GetVolumeCapabilities()[0]
		if _, err := w.ControllerPublishVolume(w.within(time.Minute), publish); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: v})
	if err != nil || len(got.GetStatus().GetPublishedNodeIds()) != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
	w.unpublish(v, "one")
	w.unpublish(v, "")
	w.remove(v)
}

func TestUnpublishFromAServerThatWasDeleted(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	w.publish(v, "one")
	id := w.server("one")
	if err := w.admin.DeleteServer(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ControllerUnpublishVolume(w.within(time.Minute), &csi.ControllerUnpublishVolumeRequest{VolumeId: v, NodeId: id}); err != nil {
		t.Fatal(err)
	}
	w.publish(v, "two")
}

func TestAnAttachmentThatNovaGivesUpIsToldAndRepeated(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	w.faults(admin.Fault{Operation: "attachment.create", Times: 1, Async: "vanish"})
	_, err := w.ControllerPublishVolume(w.within(time.Minute), publishRequest(v, w.server("one")))
	wantCode(t, err, codes.Aborted)
	w.publish(v, "one")
	w.faults(admin.Fault{Operation: "attachment.delete", Times: 1, Async: "vanish"})
	_, err = w.ControllerUnpublishVolume(w.within(time.Minute), &csi.ControllerUnpublishVolumeRequest{VolumeId: v, NodeId: w.server("one")})
	wantCode(t, err, codes.Aborted)
	w.unpublish(v, "one")
}

func TestVolumesGrowAttachedAndFree(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	expand := func(req *csi.ControllerExpandVolumeRequest, want int64) {
		t.Helper()
		resp, err := w.ControllerExpandVolume(w.within(time.Minute), req)
		if err != nil || resp.GetCapacityBytes() != want*gib || !resp.GetNodeExpansionRequired() {
			t.Fatalf("got %v, %v, want %d GiB", resp, err, want)
		}
	}
	expand(expandRequest(v, 2), 2)
	w.publish(v, "one")
	expand(expandRequest(v, 3), 3)
	expand(expandRequest(v, 3), 3)
	expand(expandRequest(v, 1), 3)
	expand(&csi.ControllerExpandVolumeRequest{VolumeId: v, CapacityRange: &csi.CapacityRange{RequiredBytes: 3*gib + 1, LimitBytes: 4 * gib}}, 4)

	_, err := w.ControllerExpandVolume(w.within(time.Minute), &csi.ControllerExpandVolumeRequest{VolumeId: v, CapacityRange: &csi.CapacityRange{RequiredBytes: gib, LimitBytes: 2 * gib}})
	wantCode(t, err, codes.OutOfRange)
	_, err = w.ControllerExpandVolume(w.within(time.Minute), &csi.ControllerExpandVolumeRequest{VolumeId: v})
	wantCode(t, err, codes.InvalidArgument)
	_, err = w.ControllerExpandVolume(w.within(time.Minute), &csi.ControllerExpandVolumeRequest{})
	wantCode(t, err, codes.InvalidArgument)
	_, err = w.ControllerExpandVolume(w.within(time.Minute), expandRequest(uuid.NewString(), 2))
	wantCode(t, err, codes.NotFound)
}

func TestVolumesAreListedPageByPage(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	want := make(map[string]bool)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		want[w.create(request(name, 1)).GetVolumeId()] = true
	}
	for limit := range int32(7) {
		seen := make(map[string]int)
		token := ""
		for {
			resp, err := w.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: limit, StartingToken: token})
			if err != nil {
				t.Fatal(err)
			}
			if limit > 0 && len(resp.GetEntries()) > int(limit) {
				t.Fatalf("%d on a page of %d", len(resp.GetEntries()), limit)
			}
			for _, e := range resp.GetEntries() {
				seen[e.GetVolume().GetVolumeId()]++
			}
			if token = resp.GetNextToken(); token == "" {
				break
			}
		}
		// The cloud is configured under two names.
		for id := range want {
			if seen[id] != 2 {
				t.Fatalf("pages of %d show %s %d times", limit, id, seen[id])
			}
		}
	}
	for _, token := range []string{"invalid-token", uuid.NewString(), "x:nine", ":", "::"} {
		_, err := w.ListVolumes(t.Context(), &csi.ListVolumesRequest{StartingToken: token})
		if token == ":" {
			continue // the beginning of the first cloud
		}
		wantCode(t, err, codes.Aborted)
	}
	_, err := w.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: -1})
	wantCode(t, err, codes.InvalidArgument)
}

func TestValidateVolumeCapabilitiesAnswersForWhatCreateAccepts(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	modes := map[csi.VolumeCapability_AccessMode_Mode]bool{
		csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER:        true,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:   true,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER: true,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:  true,
		csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:    false,
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:   false,
		csi.VolumeCapability_AccessMode_UNKNOWN:                   false,
	}
	for mode, want := range modes {
		resp, err := w.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{
			VolumeId: v, VolumeCapabilities: []*csi.VolumeCapability{capability(mode)}, VolumeContext: map[string]string{"k": "v"},
		})
		if err != nil || (resp.GetConfirmed() != nil) != want || want == (resp.GetMessage() != "") {
			t.Fatalf("%v: %v, %v", mode, resp, err)
		}
	}
	_, err := w.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{VolumeId: uuid.NewString(), VolumeCapabilities: []*csi.VolumeCapability{singleWriter}})
	wantCode(t, err, codes.NotFound)
	_, err = w.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{VolumeId: v})
	wantCode(t, err, codes.InvalidArgument)
	_, err = w.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: uuid.NewString()})
	wantCode(t, err, codes.NotFound)
	_, err = w.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{})
	wantCode(t, err, codes.InvalidArgument)
}

func TestAPublishForReadingTellsTheNodeSo(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	const key = "cinder.csi.openstack.org/readOnly"
	for _, readOnly := range []bool{true, true, false} {
		req := publishRequest(v, w.server("one"))
		req.Readonly = readOnly
		resp, err := w.ControllerPublishVolume(w.within(time.Minute), req)
		if err != nil {
			t.Fatal(err)
		}
		value, told := resp.GetPublishContext()[key]
		if told != readOnly || told && value != "true" {
			t.Errorf("readonly %t: publish context %v", readOnly, resp.GetPublishContext())
		}
	}
}
