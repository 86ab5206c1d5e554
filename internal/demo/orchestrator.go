package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// topologyKey is the driver's key for the availability zone of a node.
const topologyKey = "topology.cinder.csi.openstack.org/zone"

// orchestrator makes the CSI calls that provisioner, attacher, resizer,
// snapshotter and kubelet make, with the same arguments.
type orchestrator struct {
	controller csi.ControllerClient
	patience   patience
}

// node is one node plugin with its kubelet's directory.
type node struct {
	name string
	// id is what NodeGetInfo answers; the controller knows the node by it.
	id     string
	client csi.NodeClient
	// dir holds the staging and target paths.
	dir string
}

// volume is what an orchestrator keeps of a volume: the PersistentVolume.
type volume struct {
	id      string
	name    string
	context map[string]string
	// size is in bytes.
	size       int64
	capability *csi.VolumeCapability
	// published is what the attacher keeps per attachment.
	published map[string]string
}

// capabilityFor returns the capability of a ReadWriteOnce claim: a raw block
// device, or a filesystem of the given type.
func capabilityFor(fs string) *csi.VolumeCapability {
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{
		Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
	}}
	if fs == Block {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	} else {
		c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fs}}
	}
	return c
}

func (v *volume) block() bool { return v.capability.GetBlock() != nil }

// staging and target are the paths that a kubelet would choose.
func (n *node) staging(v *volume) string { return filepath.Join(n.dir, "staging", v.name) }
func (n *node) target(v *volume) string  { return filepath.Join(n.dir, "pods", v.name, "volume") }

// info asks the node plugin who it is and returns its id and zone.
func (o *orchestrator) info(ctx context.Context, name string, client csi.NodeClient) (id, zone string, err error) {
	answer, err := repeat(ctx, o.patience, "NodeGetInfo", func(ctx context.Context) (*csi.NodeGetInfoResponse, error) {
		return client.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
	})
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", name, err)
	}
	return answer.GetNodeId(), answer.GetAccessibleTopology().GetSegments()[topologyKey], nil
}

// create makes a volume of sizeBytes in the first zone, empty or from source.
func (o *orchestrator) create(ctx context.Context, name, fs string, sizeBytes int64, source *csi.VolumeContentSource) (*volume, error) {
	const zone = zone1
	where := []*csi.Topology{{Segments: map[string]string{topologyKey: zone}}}
	v := &volume{name: name, capability: capabilityFor(fs)}
	answer, err := repeat(ctx, o.patience, "CreateVolume", func(ctx context.Context) (*csi.CreateVolumeResponse, error) {
		return o.controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
			Name:                      name,
			CapacityRange:             &csi.CapacityRange{RequiredBytes: sizeBytes},
			VolumeCapabilities:        []*csi.VolumeCapability{v.capability},
			VolumeContentSource:       source,
			AccessibilityRequirements: &csi.TopologyRequirement{Requisite: where, Preferred: where},
		})
	})
	if err != nil {
		return nil, err
	}
	got := answer.GetVolume()
	v.id, v.context, v.size = got.GetVolumeId(), got.GetVolumeContext(), got.GetCapacityBytes()
	if v.id == "" || v.size < sizeBytes {
		return nil, fmt.Errorf("CreateVolume: asked for %d bytes, got volume %q of %d", sizeBytes, v.id, v.size)
	}
	for _, t := range got.GetAccessibleTopology() {
		if z := t.GetSegments()[topologyKey]; z != zone {
			return nil, fmt.Errorf("CreateVolume: asked for zone %s, got volume %s in %q", zone, v.id, z)
		}
	}
	return v, nil
}

// attach makes the volume a disk of the node's server.
func (o *orchestrator) attach(ctx context.Context, v *volume, n *node) error {
	answer, err := repeat(ctx, o.patience, "ControllerPublishVolume", func(ctx context.Context) (*csi.ControllerPublishVolumeResponse, error) {
		return o.controller.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{
			VolumeId: v.id, NodeId: n.id, VolumeCapability: v.capability, VolumeContext: v.context,
		})
	})
	if err != nil {
		return err
	}
	v.published = answer.GetPublishContext()
	return nil
}

// detach takes the disk away from the node's server.
func (o *orchestrator) detach(ctx context.Context, v *volume, n *node) error {
	_, err := repeat(ctx, o.patience, "ControllerUnpublishVolume", func(ctx context.Context) (*csi.ControllerUnpublishVolumeResponse, error) {
		return o.controller.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: v.id, NodeId: n.id})
	})
	v.published = nil
	return err
}

// stage formats the disk where it is blank and mounts it for the whole node.
func (o *orchestrator) stage(ctx context.Context, v *volume, n *node) error {
	if err := os.MkdirAll(n.staging(v), 0o750); err != nil {
		return fmt.Errorf("make the staging path: %w", err)
	}
	_, err := repeat(ctx, o.patience, "NodeStageVolume", func(ctx context.Context) (*csi.NodeStageVolumeResponse, error) {
		return n.client.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
			VolumeId: v.id, StagingTargetPath: n.staging(v), VolumeCapability: v.capability,
			VolumeContext: v.context, PublishContext: v.published,
		})
	})
	return err
}

// publish gives the volume to a pod. The target's parent is the kubelet's to
// make, the target itself the plugin's.
func (o *orchestrator) publish(ctx context.Context, v *volume, n *node) error {
	if err := os.MkdirAll(filepath.Dir(n.target(v)), 0o750); err != nil {
		return fmt.Errorf("make the parent of the target path: %w", err)
	}
	_, err := repeat(ctx, o.patience, "NodePublishVolume", func(ctx context.Context) (*csi.NodePublishVolumeResponse, error) {
		return n.client.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: v.id, StagingTargetPath: n.staging(v), TargetPath: n.target(v), VolumeCapability: v.capability,
			VolumeContext: v.context, PublishContext: v.published,
		})
	})
	return err
}

// unpublish takes the volume from the pod; the plugin removes the target.
func (o *orchestrator) unpublish(ctx context.Context, v *volume, n *node) error {
	_, err := repeat(ctx, o.patience, "NodeUnpublishVolume", func(ctx context.Context) (*csi.NodeUnpublishVolumeResponse, error) {
		return n.client.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.id, TargetPath: n.target(v)})
	})
	if err != nil {
		return err
	}
	if _, err := os.Lstat(n.target(v)); err == nil {
		return fmt.Errorf("NodeUnpublishVolume: %s has left its target path %s", n.name, n.target(v))
	}
	return removeDir(filepath.Dir(n.target(v)))
}

// unstage takes the volume from the node. The staging path is the kubelet's:
// it must be empty when the plugin is done with it.
func (o *orchestrator) unstage(ctx context.Context, v *volume, n *node) error {
	_, err := repeat(ctx, o.patience, "NodeUnstageVolume", func(ctx context.Context) (*csi.NodeUnstageVolumeResponse, error) {
		return n.client.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.id, StagingTargetPath: n.staging(v)})
	})
	if err != nil {
		return err
	}
	return removeDir(n.staging(v))
}

// removeDir removes an empty directory; one that holds something, or is still
// mounted, stays and is an error.
func removeDir(dir string) error {
	if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("something is left where nothing should be: %w", err)
	}
	return nil
}
