package node_test

import (
	"context"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

// nowhere is a node without any disk.
func nowhere(t *testing.T) *node.Server {
	t.Helper()
	return node.New(node.Config{Finder: &blockdev.Loop{DevDir: t.TempDir()}, FS: filesystem.New(filesystem.Options{})})
}

func TestRequestsThatCanNotBeRight(t *testing.T) {
	s, ctx := nowhere(t), t.Context()
	const id, path = "0b0b4d11-6e0e-4c5c-9f4b-2d7bd8a7c001", "/nowhere/mount"
	ext4 := filesystemOf("ext4")
	stage := func(id, path string, c *csi.VolumeCapability) func() error {
		return func() error {
			_, err := s.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: path, VolumeCapability: c})
			return err
		}
	}
	publish := func(id, staging, target string, c *csi.VolumeCapability, volumeContext map[string]string) func() error {
		return func() error {
			_, err := s.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
				VolumeId: id, StagingTargetPath: staging, TargetPath: target, VolumeCapability: c, VolumeContext: volumeContext,
			})
			return err
		}
	}
	unstage := func(id, path string) func() error {
		return func() error {
			_, err := s.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: path})
			return err
		}
	}
	unpublish := func(id, path string) func() error {
		return func() error {
			_, err := s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: path})
			return err
		}
	}
	expand := func(id, path string, required int64) func() error {
		return func() error {
			_, err := s.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{
				VolumeId: id, VolumePath: path, CapacityRange: &csi.CapacityRange{RequiredBytes: required},
			})
			return err
		}
	}
	stats := func(id, path string) func() error {
		return func() error {
			_, err := s.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: path})
			return err
		}
	}
	group := filesystemOf("ext4")
	group.GetMount().VolumeMountGroup = "1000"
	for _, tt := range []struct {
		name string
		call func() error
		want codes.Code
		told string
	}{
		{"stage without a volume", stage("", path, ext4), codes.InvalidArgument, "volume_id"},
		{"stage without a path", stage(id, "", ext4), codes.InvalidArgument, "staging_target_path"},
		{"stage at a relative path", stage(id, "nowhere", ext4), codes.InvalidArgument, "not absolute"},
		{"stage at the root", stage(id, "/../", ext4), codes.InvalidArgument, "root"},
		{"stage at a path with a zero", stage(id, "/a\x00b", ext4), codes.InvalidArgument, "no path"},
		{"stage at a path without end", stage(id, "/"+strings.Repeat("a", 5000), ext4), codes.InvalidArgument, "no path"},
		{"stage without a capability", stage(id, path, nil), codes.InvalidArgument, "volume_capability"},
		{"stage without an access type", stage(id, path, &csi.VolumeCapability{AccessMode: ext4.GetAccessMode()}), codes.InvalidArgument, "neither"},
		{"stage without an access mode", stage(id, path, &csi.VolumeCapability{AccessType: ext4.GetAccessType()}), codes.InvalidArgument, "access mode"},
		{"stage of an unknown filesystem", stage(id, path, filesystemOf("ntfs")), codes.InvalidArgument, "ntfs"},
		{"stage with a flag that mounts something else", stage(id, path, filesystemOf("ext4", "noatime,loop=/dev/loop0")), codes.InvalidArgument, "loop"},
		{"stage with a flag that takes another disk", stage(id, path, filesystemOf("xfs", "noatime,logdev=/dev/vda")), codes.InvalidArgument, "logdev"},
		{"stage with a flag that changes a mount", stage(id, path, filesystemOf("ext4", "remount")), codes.InvalidArgument, "remount"},
		{"stage for a group", stage(id, path, group), codes.InvalidArgument, "volume_mount_group"},
		{"stage of what can't be a volume", stage("short", path, ext4), codes.NotFound, "short"},
		{"publish without a volume", publish("", path, path+"2", ext4, nil), codes.InvalidArgument, "volume_id"},
		{"publish without a target", publish(id, path, "", ext4, nil), codes.InvalidArgument, "target_path"},
		{"publish without a capability", publish(id, "", path, nil, nil), codes.InvalidArgument, "volume_capability"},
		{"publish without staging", publish(id, "", path, ext4, nil), codes.FailedPrecondition, "staging_target_path"},
		{"publish onto staging", publish(id, path, path+"/", ext4, nil), codes.InvalidArgument, "the same"},
		{"publish of an inline volume", publish(id, path, path+"2", ext4, map[string]string{"csi.storage.k8s.io/ephemeral": "true"}), codes.InvalidArgument, "ephemeral"},
		{"publish of a disk that isn't here", publish(id, path, path+"2", ext4, nil), codes.Unavailable, "not here"},
		{"unpublish without a volume", unpublish("", path), codes.InvalidArgument, "volume_id"},
		{"unpublish without a path", unpublish(id, ""), codes.InvalidArgument, "target_path"},
		{"unpublish of a relative path", unpublish(id, "a"), codes.InvalidArgument, "not absolute"},
		{"unpublish of the root", unpublish(id, "/"), codes.InvalidArgument, "root"},
		{"unstage without a volume", unstage("", path), codes.InvalidArgument, "volume_id"},
		{"unstage without a path", unstage(id, ""), codes.InvalidArgument, "staging_target_path"},
		{"unstage of the root", unstage(id, "//"), codes.InvalidArgument, "root"},
		{"expand without a volume", expand("", path, 0), codes.InvalidArgument, "volume_id"},
		{"expand without a path", expand(id, "", 0), codes.InvalidArgument, "volume_path"},
		{"expand to less than nothing", expand(id, path, -1), codes.InvalidArgument, "required_bytes"},
		{"expand where nothing is", expand(id, path, 0), codes.NotFound, path},
		{"expand at a relative path", expand(id, "some/path", 0), codes.NotFound, "some/path"},
		{"stats without a volume", stats("", path), codes.InvalidArgument, "volume_id"},
		{"stats without a path", stats(id, ""), codes.InvalidArgument, "volume_path"},
		{"stats where nothing is", stats(id, path), codes.NotFound, path},
		{"stats at a relative path", stats(id, "some/path"), codes.NotFound, "some/path"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantCode(t, tt.call(), tt.want, tt.told) })
	}
}

func TestACallerThatGivesUpIsToldSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := nowhere(t).NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: "0b0b4d11-6e0e-4c5c-9f4b-2d7bd8a7c001", StagingTargetPath: "/nowhere/mount", VolumeCapability: filesystemOf("ext4"),
	})
	wantCode(t, err, codes.Canceled)
}

func TestWhatTheNodeSaysItCanDo(t *testing.T) {
	resp, err := nowhere(t).NodeGetCapabilities(t.Context(), &csi.NodeGetCapabilitiesRequest{})
	must(t, err)
	got := map[csi.NodeServiceCapability_RPC_Type]bool{}
	for _, c := range resp.GetCapabilities() {
		got[c.GetRpc().GetType()] = true
	}
	for _, want := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS, csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		if !got[want] {
			t.Errorf("%v is not announced", want)
		}
	}
	if len(got) != 4 {
		t.Errorf("announced: %v", got)
	}
}

func TestANodeWhoseZoneNothingTellsIsNotRegisteredWithoutOne(t *testing.T) {
	zoneless := func(context.Context) (instance.Identity, error) {
		return instance.Identity{ServerID: "5f7e3c1a-0000-4000-8000-000000000001"}, nil
	}
	for _, test := range []struct {
		name string
		cfg  node.Config
		want codes.Code
	}{
		{"with topology", node.Config{WithTopology: true}, codes.FailedPrecondition},
		{"without topology", node.Config{}, codes.OK},
		{"with a zone of the command line", node.Config{WithTopology: true, AdditionalTopology: map[string]string{zoneKey: "az1"}}, codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Identity = zoneless
			test.cfg.Finder, test.cfg.FS = &blockdev.Loop{DevDir: t.TempDir()}, filesystem.New(filesystem.Options{})
			_, err := node.New(test.cfg).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
			if status.Code(err) != test.want {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}
