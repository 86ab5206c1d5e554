package controller_test

import (
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// Cinder lets a volume of a multiattach type be attached to several servers,
// whatever it was made for. Two nodes that write to one filesystem destroy it.
func TestAVolumeForOneNodeIsPublishedToOneNodeOnWhateverType(t *testing.T) {
	for mode, alone := range map[csi.VolumeCapability_AccessMode_Mode]bool{
		csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER:        true,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER: true,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:  true,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:   true,
		csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:    false,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t, devcloud.Fast())
			req := request("pvc-1", 1)
			req.Parameters = map[string]string{"type": "multiattach"}
			v := w.create(req).GetVolumeId()
			publish := func(server string) error {
				req := publishRequest(v, w.server(server))
				req.VolumeCapability = capability(mode)
				_, err := w.ControllerPublishVolume(w.within(time.Minute), req)
				return err
			}
			if err := publish("one"); err != nil {
				t.Fatal(err)
			}
			if !alone {
				if err := publish("two"); err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCode(t, publish("two"), codes.FailedPrecondition, w.server("one"))
			if err := publish("one"); err != nil {
				t.Fatalf("again: %v", err)
			}
			if got := w.attachments("pvc-1"); got != 1 {
				t.Errorf("%d attachments", got)
			}
			w.unpublish(v, "one")
			if err := publish("two"); err != nil {
				t.Fatal(err)
			}
		})
	}
}
