package controller

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// formatOption is a parameter of a StorageClass that travels in the volume
// context to the node, which makes the filesystem.
type formatOption struct {
	parameter, context string
	// number tells that the value is a number of bytes.
	number bool
	// only is the one value that there is; empty where there are others.
	only string
}

// formatOptions are all of them. The keys of the context are the node's.
func formatOptions() []formatOption {
	return []formatOption{
		{parameter: "mkfsOptions", context: mkfs.OptionsKey},
		{parameter: "mkfs-options", context: mkfs.OptionsKey},
		{parameter: "blockSize", context: mkfs.BlockSizeKey, number: true},
		{parameter: "inodeSize", context: mkfs.InodeSizeKey, number: true},
		{parameter: "bytesPerInode", context: mkfs.BytesPerInodeKey, number: true},
		{parameter: "encrypted", context: "cinder.csi.openstack.org/encrypted", only: "luks2"},
	}
}

// checkFormat refuses a filesystem that mkfs could never make with the options of a
// volume context: on the node it would be too late, the volume exists then.
func checkFormat(capabilities []*csi.VolumeCapability, context map[string]string) error {
	for _, c := range capabilities {
		if c.GetMount() == nil {
			continue
		}
		_, err := mkfs.Options(cmp.Or(c.GetMount().GetFsType(), "ext4"), context)
		if err == nil {
			continue
		}
		// Where none is named, it is the node's to choose.
		takes := func(fsType string) bool {
			_, err := mkfs.Options(fsType, context)
			return err == nil
		}
		if c.GetMount().GetFsType() != "" || !slices.ContainsFunc([]string{"xfs", "btrfs"}, takes) {
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
	return nil
}

// formatContext returns the volume context that the parameters make. What the
// values mean for a kind of filesystem is left to checkFormat and to the node.
func formatContext(params parameters) (map[string]string, error) {
	context := make(map[string]string)
	for _, o := range formatOptions() {
		value := params.get(o.parameter)
		if value == "" {
			continue
		}
		if o.number {
			if n, err := strconv.ParseUint(value, 10, 32); err != nil || n == 0 {
				return nil, status.Errorf(codes.InvalidArgument, "parameter %s is %q, which is not a number of bytes", o.parameter, value)
			}
		}
		if o.only != "" && value != o.only {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %s is %q: the only value is %q", o.parameter, value, o.only)
		}
		if before, twice := context[o.context]; twice && before != value {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %s is given in two spellings, as %q and %q", o.parameter, before, value)
		}
		context[o.context] = value
	}
	return context, nil
}
