package node

import (
	"context"
	"fmt"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// TestWhatUdevBuiltUponADisk: devices that nobody has open are in the way of what
// would be written to the disk, and of nothing else.
func TestWhatUdevBuiltUponADisk(t *testing.T) {
	idle := []blockdev.Holder{{Detail: "dm-3"}}
	used := []blockdev.Holder{{Detail: "dm-3", InUse: true}}
	ext4, err := filesystem.TypeOf("ext4")
	if err != nil {
		t.Fatal(err)
	}
	block, mount := capability{block: true}, capability{fsType: ext4}
	for _, tt := range []struct {
		holders        []blockdev.Holder
		want           capability
		stage, publish codes.Code
	}{
		{nil, block, codes.OK, codes.OK},
		{idle, block, codes.OK, codes.OK},
		{used, block, codes.FailedPrecondition, codes.FailedPrecondition},
		{nil, mount, codes.OK, codes.FailedPrecondition}, // to publish it has to be staged
		{idle, mount, codes.FailedPrecondition, codes.FailedPrecondition},
		{used, mount, codes.FailedPrecondition, codes.FailedPrecondition},
	} {
		_, err = stageState{dataState: dataState{holders: tt.holders}}.next(stageRequest{capability: tt.want})
		if got := answer(err); got != tt.stage {
			t.Errorf("stage, block %t, upon the disk is %v: %v (%v), want %v", tt.want.block, tt.holders, got, err, tt.stage)
		}
		_, err = publishState{dataState: dataState{holders: tt.holders}}.next(publishRequest{capability: tt.want})
		if got := answer(err); got != tt.publish {
			t.Errorf("publish, block %t, upon the disk is %v: %v (%v), want %v", tt.want.block, tt.holders, got, err, tt.publish)
		}
	}
}

// answer is the code of what a call answers.
func answer(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return code(err)
}

// unsafe is a Finder that finds a disk that must not be touched.
type unsafe struct{ blockdev.Finder }

func (unsafe) Find(context.Context, string) (blockdev.Disk, error) {
	return blockdev.Disk{}, fmt.Errorf("two disks: %w", blockdev.ErrUnsafe)
}

// TestAnExpansionThatMayWorkLaterIsNotForVolumesOutOfUse: the kubelet would never ask
// again while a pod uses the volume.
func TestAnExpansionThatMayWorkLaterIsNotForVolumesOutOfUse(t *testing.T) {
	s := New(Config{Finder: unsafe{}, FS: filesystem.New(filesystem.Options{})})
	_, err := s.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: "x", VolumePath: t.TempDir()})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
}
