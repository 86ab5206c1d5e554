package controller_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

func TestCapabilitiesAreAnnounced(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	resp, err := w.ControllerGetCapabilities(t.Context(), &csi.ControllerGetCapabilitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range resp.GetCapabilities() {
		got = append(got, c.GetRpc().GetType().String())
	}
	slices.Sort(got)
	want := []string{
		"CLONE_VOLUME", "CREATE_DELETE_SNAPSHOT", "CREATE_DELETE_VOLUME", "EXPAND_VOLUME", "GET_CAPACITY", "GET_SNAPSHOT", "GET_VOLUME",
		"LIST_SNAPSHOTS", "LIST_VOLUMES", "LIST_VOLUMES_PUBLISHED_NODES", "MODIFY_VOLUME", "PUBLISH_UNPUBLISH_VOLUME", "SINGLE_NODE_MULTI_WRITER",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestEveryAccessMode creates volumes of either type for every mode, and asks
// afterwards whether they can be used so.
func TestEveryAccessMode(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	const yes, no, shared = "on any type", "never", "on a multiattach type"
	for mode, can := range map[csi.VolumeCapability_AccessMode_Mode]struct{ mount, block string }{
		csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER:        {yes, yes},
		csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER: {yes, yes},
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:  {yes, yes},
		csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:   {yes, yes},
		csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:    {shared, shared},
		csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER:  {no, shared},
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:   {no, shared},
		csi.VolumeCapability_AccessMode_UNKNOWN:                   {no, no},
	} {
		for access, when := range map[string]string{"mount": can.mount, "block": can.block} {
			for _, kind := range []string{"standard", "multiattach"} {
				t.Run(fmt.Sprint(mode, access, "on", kind), func(t *testing.T) {
					use := capability(mode)
					if access == "block" {
						use = blockCapability(mode)
					}
					able := when == yes || when == shared && kind == "multiattach"
					req := request(t.Name(), 1)
					req.Parameters = map[string]string{"type": kind}
					req.VolumeCapabilities = []*csi.VolumeCapability{use}
					_, err := w.CreateVolume(w.within(time.Minute), req)
					if able && err != nil {
						t.Fatal(err)
					}
					if !able {
						wantCode(t, err, codes.InvalidArgument)
						if n := len(w.volumesNamed(req.GetName())); n != 0 {
							t.Fatalf("%d volumes are left", n)
						}
					}
					plain := request(t.Name()+" plain", 1)
					plain.Parameters = req.GetParameters()
					resp, err := w.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{
						VolumeId: w.create(plain).GetVolumeId(), VolumeCapabilities: req.GetVolumeCapabilities(),
					})
					if err != nil || able != (resp.GetConfirmed() != nil) || able == (resp.GetMessage() != "") {
						t.Errorf("asked afterwards: %v, %v", resp, err)
					}
				})
			}
		}
	}
}
