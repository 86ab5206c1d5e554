package node

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
)

// maxPath is the longest path that the kernel takes, without its final zero.
const maxPath = 4095

// use is how a workload wants to use a volume: a capability that was checked.
type use struct {
	// block asks for the device itself; all below is for filesystems, but for
	// readOnly and single.
	block bool
	// fsType is the filesystem asked for, empty where it doesn't matter.
	fsType string
	// flags are the mount flags, one in each, without ro and rw.
	flags []string
	// readOnly: nobody may write by way of this use.
	readOnly bool
	// context is the volume context, where what shapes a new filesystem is from.
	context map[string]string
	// encrypted: what is on the disk is LUKS2, opened by the passphrase.
	encrypted  bool
	passphrase []byte
	// beneath is where the bytes of an encrypted volume really are.
	beneath *filesystem.Beneath
	// single: the volume may be published at one target only.
	single bool
}

// checkVolumeID refuses ids that no request may have. Whether it can be the id
// of a Cinder volume is left to whoever looks for the disk.
func checkVolumeID(id string) error {
	if id == "" {
		return fmt.Errorf("%w: volume_id is missing", errInvalid)
	}
	return nil
}

// checkPath returns a path of a request in its shortest form.
func checkPath(field, path string) (string, error) {
	switch {
	case path == "":
		return "", fmt.Errorf("%w: %s is missing", errInvalid, field)
	case len(path) > maxPath || strings.ContainsRune(path, 0):
		return "", fmt.Errorf("%w: %s is no path", errInvalid, field)
	case !filepath.IsAbs(path):
		return "", fmt.Errorf("%w: %s %q is not absolute", errInvalid, field, path)
	}
	clean := filepath.Clean(path)
	if clean == "/" {
		return "", fmt.Errorf("%w: %s is the root directory", errInvalid, field)
	}
	return clean, nil
}

// checkCapability reads a capability.
func checkCapability(c *csi.VolumeCapability) (use, error) {
	if c == nil {
		return use{}, fmt.Errorf("%w: volume_capability is missing", errInvalid)
	}
	u, err := useOfMode(c.GetAccessMode().GetMode())
	if err != nil {
		return use{}, err
	}
	switch {
	case c.GetBlock() != nil:
		u.block = true
		return u, nil
	case c.GetMount() != nil:
		return u.withMount(c.GetMount())
	}
	return use{}, fmt.Errorf("%w: volume_capability has neither block nor mount", errInvalid)
}

func useOfMode(mode csi.VolumeCapability_AccessMode_Mode) (use, error) {
	switch mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
		csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		return use{readOnly: true}, nil
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER:
		return use{single: true}, nil
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
		// An orchestrator that doesn't know the modes for one and many writers
		// on a node shares a SINGLE_NODE_WRITER volume between workloads.
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER,
		csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		return use{}, nil
	}
	return use{}, fmt.Errorf("%w: access mode %v", errInvalid, mode)
}

func (u use) withMount(m *csi.VolumeCapability_MountVolume) (use, error) {
	if m.GetVolumeMountGroup() != "" {
		return use{}, fmt.Errorf("%w: volume_mount_group is not supported", errInvalid)
	}
	u.fsType = m.GetFsType()
	if u.fsType != "" && !filesystem.Supported(u.fsType) {
		return use{}, fmt.Errorf("%w: filesystem %q is not supported", errInvalid, u.fsType)
	}
	for _, group := range m.GetMountFlags() {
		for _, flag := range splitFlags(group) {
			switch {
			case flag == "" || flag == "rw" || flag == "defaults":
			case flag == "ro":
				u.readOnly = true
			case forbidden(flag):
				return use{}, fmt.Errorf("%w: mount flag %q is not allowed", errInvalid, flag)
			case !slices.Contains(u.flags, flag):
				u.flags = append(u.flags, flag)
			}
		}
	}
	return u, nil
}
