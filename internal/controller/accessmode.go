package controller

import (
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// access is what a set of volume capabilities needs.
type access struct {
	// multiattach: the volume has to serve several nodes.
	multiattach bool
}

// checkCapabilities returns what the capabilities need, or why no volume can
// have them.
func checkCapabilities(capabilities []*csi.VolumeCapability) (access, error) {
	var needed access
	if len(capabilities) == 0 {
		return needed, missing("volume_capabilities")
	}
	for _, c := range capabilities {
		if c.GetBlock() == nil && c.GetMount() == nil {
			return needed, missing("access_type of a volume capability")
		}
		several, err := severalNodes(c)
		if err != nil {
			return needed, status.Error(codes.InvalidArgument, err.Error())
		}
		needed.multiattach = needed.multiattach || several
	}
	return needed, nil
}

// severalNodes reports whether a capability is about more than one node at a
// time, and refuses what would destroy data.
func severalNodes(c *csi.VolumeCapability) (bool, error) {
	mode := c.GetAccessMode().GetMode()
	switch mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		return false, nil
	case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		return true, nil
	case csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		if c.GetBlock() == nil {
			return true, fmt.Errorf("access mode %s needs a raw block volume: "+
				"a filesystem (ext4, xfs, btrfs) that is mounted for writing on two nodes loses its content", mode)
		}
		return true, nil
	}
	return false, fmt.Errorf("access mode %s is not supported", mode)
}
