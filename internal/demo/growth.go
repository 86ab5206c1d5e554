package demo

import (
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// growCloud grows the volume in the cloud and reports whether the node has to
// grow its side too.
func (o *orchestrator) growCloud(ctx context.Context, v *volume, sizeBytes int64) (onNode bool, err error) {
	answer, err := repeat(ctx, o.patience, "ControllerExpandVolume", func(ctx context.Context) (*csi.ControllerExpandVolumeResponse, error) {
		return o.controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
			VolumeId: v.id, CapacityRange: &csi.CapacityRange{RequiredBytes: sizeBytes}, VolumeCapability: v.capability,
		})
	})
	if err != nil {
		return false, err
	}
	if got := answer.GetCapacityBytes(); got < sizeBytes {
		return false, fmt.Errorf("ControllerExpandVolume: asked for %d bytes, got %d", sizeBytes, got)
	}
	v.size = answer.GetCapacityBytes()
	return answer.GetNodeExpansionRequired(), nil
}

// growNode grows the filesystem of a published volume.
func (o *orchestrator) growNode(ctx context.Context, v *volume, n *node) error {
	_, err := repeat(ctx, o.patience, "NodeExpandVolume", func(ctx context.Context) (*csi.NodeExpandVolumeResponse, error) {
		return n.client.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{
			VolumeId: v.id, VolumePath: n.target(v), StagingTargetPath: n.staging(v),
			CapacityRange: &csi.CapacityRange{RequiredBytes: v.size}, VolumeCapability: v.capability,
		})
	})
	return err
}

// stats returns what the plugin says about the volume: its size and what of it
// is used, in bytes. A raw device has no used bytes.
func (o *orchestrator) stats(ctx context.Context, v *volume, n *node) (total, used int64, err error) {
	answer, err := repeat(ctx, o.patience, "NodeGetVolumeStats", func(ctx context.Context) (*csi.NodeGetVolumeStatsResponse, error) {
		return n.client.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{
			VolumeId: v.id, VolumePath: n.target(v), StagingTargetPath: n.staging(v),
		})
	})
	if err != nil {
		return 0, 0, err
	}
	for _, usage := range answer.GetUsage() {
		if usage.GetUnit() == csi.VolumeUsage_BYTES {
			return usage.GetTotal(), usage.GetUsed(), nil
		}
	}
	return 0, 0, fmt.Errorf("NodeGetVolumeStats: no usage in bytes for volume %s", v.id)
}

// snapshot takes a snapshot and repeats the call, as the snapshotter does,
// until it is ready to use. It returns the snapshot's id.
func (o *orchestrator) snapshot(ctx context.Context, v *volume, name string) (string, error) {
	answer, err := repeat(ctx, o.patience, "CreateSnapshot", func(ctx context.Context) (*csi.CreateSnapshotResponse, error) {
		answer, err := o.controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{SourceVolumeId: v.id, Name: name})
		if err == nil && !answer.GetSnapshot().GetReadyToUse() {
			return nil, errNotReady
		}
		return answer, err
	})
	if err != nil {
		return "", err
	}
	return answer.GetSnapshot().GetSnapshotId(), nil
}

// deleteSnapshot deletes a snapshot.
func (o *orchestrator) deleteSnapshot(ctx context.Context, id string) error {
	_, err := repeat(ctx, o.patience, "DeleteSnapshot", func(ctx context.Context) (*csi.DeleteSnapshotResponse, error) {
		return o.controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id})
	})
	return err
}

// deleteVolume deletes a volume.
func (o *orchestrator) deleteVolume(ctx context.Context, v *volume) error {
	_, err := repeat(ctx, o.patience, "DeleteVolume", func(ctx context.Context) (*csi.DeleteVolumeResponse, error) {
		return o.controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.id})
	})
	return err
}

// fromSnapshot and fromVolume are the two sources of a new volume.
func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id},
	}}
}

func fromVolume(v *volume) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: v.id},
	}}
}
