package controller

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// access is how a volume is used.
type access struct {
	// multiattach: the volume is attached to several nodes at the same time.
	multiattach bool
	// readOnly: no node writes.
	readOnly bool
}

// checkCapabilities returns what a volume needs that is used by any of the
// capabilities, or InvalidArgument with the reason why no volume can have one of
// them.
func checkCapabilities(capabilities []*csi.VolumeCapability) (access, error) {
	if len(capabilities) == 0 {
		return access{}, missing("volume_capabilities")
	}
	var needed access
	for _, c := range capabilities {
		one, err := checkCapability(c)
		if err != nil {
			return access{}, err
		}
		needed.multiattach = needed.multiattach || one.multiattach
	}
	return needed, nil
}

// checkCapability is the table of the access modes. Whoever made a volume, and
// whatever its type allows, a filesystem (ext4, xfs, btrfs) is never writable on
// two nodes: each node would overwrite what the other has written.
func checkCapability(c *csi.VolumeCapability) (access, error) {
	if c.GetBlock() == nil && c.GetMount() == nil {
		return access{}, missing("access_type of the volume capability")
	}
	switch mode := c.GetAccessMode().GetMode(); mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		return access{}, nil
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
		return access{readOnly: true}, nil
	case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		return access{multiattach: true, readOnly: true}, nil
	case csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		if c.GetBlock() != nil {
			return access{multiattach: true}, nil
		}
		return access{}, status.Errorf(codes.InvalidArgument, "access mode %s needs a raw block volume: "+
			"a filesystem (ext4, xfs, btrfs) that is mounted for writing on two nodes loses its content; "+
			"use ReadWriteOnce, ReadOnlyMany, or volumeMode Block", mode)
	default:
		return access{}, status.Errorf(codes.InvalidArgument, "access mode %s is not supported", mode)
	}
}
