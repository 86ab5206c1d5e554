package controller_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// origins are the ways in which a volume comes to be: only the first passes
// CreateVolume, which checks the access modes, too.
var origins = map[string]func(w *world, name, kind string) (id string, volumeContext map[string]string){
	"made by this driver": func(w *world, name, kind string) (string, map[string]string) {
		req := request(name, 1)
		req.Parameters = map[string]string{"type": kind}
		v := w.create(req)
		return v.GetVolumeId(), v.GetVolumeContext()
	},
	"made by hand": func(w *world, name, kind string) (string, map[string]string) {
		return w.foreign(name, kind, nil), nil
	},
	"of an in-tree PersistentVolume": func(w *world, name, kind string) (string, map[string]string) {
		return w.foreign(name, kind, map[string]string{"kubernetes.io/created-for/pvc/name": "data"}), map[string]string{"migrated": "true"}
	},
	"made by the reference driver": func(w *world, name, kind string) (string, map[string]string) {
		return w.foreign(name, kind, map[string]string{"cinder.csi.openstack.org/cluster": "kubernetes"}),
			map[string]string{"storage.kubernetes.io/csiProvisionerIdentity": "1-8081-cinder.csi.openstack.org"}
	},
}

// foreign makes a volume past the driver.
func (w *world) foreign(name, kind string, metadata map[string]string) string {
	w.Helper()
	v, err := w.client.CreateVolume(w.Context(), cloud.VolumeRequest{Name: name, SizeGiB: 1, Type: kind, Metadata: metadata})
	if err != nil {
		w.Fatal(err)
	}
	return v.ID
}

// Cinder attaches a volume of a multiattach type to several servers, whatever it
// was made for. Two nodes that write to one filesystem destroy it.
func TestEveryAccessModeOfEveryVolumeOnTwoNodes(t *testing.T) {
	const (
		alone   = "on one node at a time"
		shared  = "on several nodes where the type allows that"
		readers = "the same, for reading"
		reader  = "on one node at a time, for reading"
		refused = "on none"
	)
	expected := map[csi.VolumeCapability_AccessMode_Mode]struct{ mount, block string }{
		csi.VolumeCapability_AccessMode_UNKNOWN:                   {refused, refused},
		csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER:        {alone, alone},
		csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:   {reader, reader},
		csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:    {readers, readers},
		csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER:  {refused, shared},
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:   {refused, shared},
		csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER: {alone, alone},
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:  {alone, alone},
		99: {refused, refused}, // of a later version of CSI
		-1: {refused, refused}, // stands for a capability without an access mode
	}
	for origin, build := range origins {
		for _, kind := range []string{"standard", "multiattach"} {
			t.Run(origin+", of type "+kind, func(t *testing.T) {
				w := newWorld(t, devcloud.Instant())
				id, volumeContext := build(w, "pvc-1", kind)
				for mode, want := range expected {
					mount, block := capability(mode), blockCapability(mode)
					if mode < 0 {
						mount.AccessMode, block.AccessMode = nil, nil
					}
					for c, want := range map[*csi.VolumeCapability]string{mount: want.mount, block: want.block, {AccessMode: mount.GetAccessMode()}: refused} {
						publish := func(server string) (map[string]string, error) {
							resp, err := w.ControllerPublishVolume(w.within(time.Minute), &csi.ControllerPublishVolumeRequest{
								VolumeId: id, NodeId: w.server(server), VolumeCapability: c, VolumeContext: volumeContext,
							})
							return resp.GetPublishContext(), err
						}
						what := fmt.Sprintf("%v (block: %t, mount: %t)", mode, c.GetBlock() != nil, c.GetMount() != nil)
						first, err := publish("one")
						_, second := publish("two")
						codeOne, codeTwo, attachments := codes.OK, codes.FailedPrecondition, 1
						switch {
						case want == refused:
							codeOne, codeTwo, attachments = codes.InvalidArgument, codes.InvalidArgument, 0
						case (want == shared || want == readers) && kind == "multiattach":
							codeTwo, attachments = codes.OK, 2
						}
						if status.Code(err) != codeOne || status.Code(second) != codeTwo {
							t.Errorf("%s: first on one, then on two nodes: %v, %v; want %v, %v", what, err, second, codeOne, codeTwo)
						}
						if told := first["cinder.csi.openstack.org/readOnly"] == "true"; told != (want == reader || want == readers) {
							t.Errorf("%s: the node is told to mount it read-only: %t", what, told)
						}
						if got := w.attachments("pvc-1"); got != attachments {
							t.Errorf("%s: %d attachments, want %d", what, got, attachments)
						}
						if attachments > 0 {
							w.unpublish(id, "")
						}
					}
				}
			})
		}
	}
}

func TestAVolumeForOneNodeMovesToAnother(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	req := request("pvc-1", 1)
	req.Parameters = map[string]string{"type": "multiattach"}
	v := w.create(req).GetVolumeId()
	w.publish(v, "one")
	w.publish(v, "one")
	_, err := w.ControllerPublishVolume(w.within(time.Minute), publishRequest(v, w.server("two")))
	wantCode(t, err, codes.FailedPrecondition, w.server("one"))
	if got := w.attachments("pvc-1"); got != 1 {
		t.Errorf("%d attachments", got)
	}
	w.unpublish(v, "one")
	w.publish(v, "two")
}
