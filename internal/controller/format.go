package controller

import (
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
	const mkfs = "cinder.csi.openstack.org/mkfs-options"
	return []formatOption{
		{parameter: "mkfsOptions", context: mkfs},
		{parameter: "mkfs-options", context: mkfs},
		{parameter: "blockSize", context: "cinder.csi.openstack.org/blockSize", number: true},
		{parameter: "inodeSize", context: "cinder.csi.openstack.org/inodeSize", number: true},
		{parameter: "bytesPerInode", context: "cinder.csi.openstack.org/bytesPerInode", number: true},
		{parameter: "encrypted", context: "cinder.csi.openstack.org/encrypted", only: "luks2"},
	}
}

// formatContext returns the volume context that the parameters make. What the
// values mean for a kind of filesystem is left to the node.
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
