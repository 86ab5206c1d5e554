package node

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

const (
	// maxPath is the longest path that the kernel takes, without its final zero.
	maxPath = 4095
	// readOnlyKey of a publish context: the controller published the volume to this
	// server for reading only. Nova attaches every disk writable, so that this
	// server has to keep to it.
	readOnlyKey = "cinder.csi.openstack.org/readOnly"
	// firstPublicationKey of a publish context: when the volume was given to a server
	// for the first time, by this publication. It has no source then.
	firstPublicationKey = "cinder.csi.openstack.org/firstPublication"
	// encryptedKey of a volume context says that the node encrypts the volume.
	// It comes from the parameter of the StorageClass.
	encryptedKey = "cinder.csi.openstack.org/encrypted"
	// luks2 is its only value.
	luks2 = "luks2"
	// passphraseKey of the secrets for NodeStageVolume is the passphrase, every
	// byte of it.
	passphraseKey = "encryptionPassphrase" // #nosec G101 -- the name of a key
	// ephemeralKey of a volume context: the kubelet asks for an inline volume.
	ephemeralKey = "csi.storage.k8s.io/ephemeral"
)

// capability is a checked volume capability.
type capability struct {
	// block asks for the device itself. fsType and flags are for filesystems.
	block bool
	// fsType is the filesystem asked for, nil where any will do.
	fsType *filesystem.Type
	// flags are the mount flags, one in each, without ro and rw.
	flags []string
	// readOnly: a workload may not write by way of this request.
	readOnly bool
	// readersOnly: nothing on this server may write to the disk, not even the
	// kernel on behalf of a filesystem.
	readersOnly bool
	// single: the volume may be published at one target only.
	single bool
}

// stageRequest is a checked NodeStageVolume request.
type stageRequest struct {
	volumeID, staging string
	capability
	// fresh is the filesystem that a blank disk gets, by mkfs with the options. What is
	// wrong with these, optionsErr, doesn't matter to a disk that has a filesystem.
	fresh      *filesystem.Type
	options    mkfs.List
	optionsErr error
	// encrypted: the disk holds LUKS2, opened by the passphrase.
	encrypted  bool
	passphrase []byte
	// firstPublished is when the controller made the volume's first publication, by
	// which this is; zero for a later one.
	firstPublished time.Time
}

// publishRequest is a checked NodePublishVolume request.
type publishRequest struct {
	volumeID, staging, target string
	capability
	encrypted bool
}

func parseStage(req *csi.NodeStageVolumeRequest, defaultFSType string) (r stageRequest, err error) {
	r = stageRequest{volumeID: req.GetVolumeId()}
	// What is no time is the zero time: the volume may have been published before.
	r.firstPublished, _ = time.Parse(time.RFC3339Nano, req.GetPublishContext()[firstPublicationKey])
	if r.staging, err = checkVolume(r.volumeID, "staging_target_path", req.GetStagingTargetPath()); err != nil {
		return r, err
	}
	if r.capability, err = checkCapability(req.GetVolumeCapability(), req.GetPublishContext()); err != nil {
		return r, err
	}
	if r.encrypted, err = wantsEncryption(req.GetVolumeContext()); err != nil {
		return r, err
	}
	if r.passphrase = []byte(req.GetSecrets()[passphraseKey]); r.encrypted && len(r.passphrase) == 0 {
		return r, fmt.Errorf("%w: the volume is to be encrypted, but the secret for staging has no %s: name one by the parameters csi.storage.k8s.io/node-stage-secret-name and -namespace of the StorageClass",
			errInvalid, passphraseKey)
	}
	if r.fresh = r.fsType; r.fresh == nil {
		if r.fresh, err = filesystem.TypeOf(defaultFSType); err != nil {
			return r, err
		}
	}
	r.options, r.optionsErr = r.fresh.MkfsOptions(req.GetVolumeContext())
	return r, nil
}

func parsePublish(req *csi.NodePublishVolumeRequest) (r publishRequest, err error) {
	r.volumeID = req.GetVolumeId()
	if r.target, err = checkVolume(r.volumeID, "target_path", req.GetTargetPath()); err != nil {
		return r, err
	}
	if r.capability, err = checkCapability(req.GetVolumeCapability(), req.GetPublishContext()); err != nil {
		return r, err
	}
	r.readOnly = r.readOnly || req.GetReadonly()
	if r.encrypted, err = wantsEncryption(req.GetVolumeContext()); err != nil {
		return r, err
	}
	if req.GetVolumeContext()[ephemeralKey] == "true" {
		return r, fmt.Errorf("%w: inline ephemeral volumes are not supported: use a generic ephemeral volume", errInvalid)
	}
	if req.GetStagingTargetPath() == "" { // the code is the specification's
		return r, fmt.Errorf("%w: staging_target_path is missing: the volume has to be staged first", errNotStaged)
	}
	if r.staging, err = checkPath("staging_target_path", req.GetStagingTargetPath()); err != nil {
		return r, err
	}
	if r.target == r.staging {
		return r, fmt.Errorf("%w: target_path and staging_target_path are the same", errInvalid)
	}
	return r, nil
}

// wantsEncryption reads a volume context.
func wantsEncryption(volumeContext map[string]string) (bool, error) {
	value, asked := volumeContext[encryptedKey]
	if asked && value != luks2 {
		return false, fmt.Errorf("%w: %s is %q: it must be %s", errInvalid, encryptedKey, value, luks2)
	}
	return asked, nil
}

// checkVolume checks the two fields that every request for a volume has. Whether
// the id can be that of a Cinder volume is left to whoever looks for the disk.
func checkVolume(id, field, path string) (string, error) {
	if id == "" {
		return "", fmt.Errorf("%w: volume_id is missing", errInvalid)
	}
	return checkPath(field, path)
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

// checkCapability reads a capability. A filesystem that two servers mount loses
// its content as soon as one of them writes: whatever the controller, or whoever
// made the PersistentVolume by hand, said about the volume, this server mounts
// none that others may write to.
func checkCapability(c *csi.VolumeCapability, publishContext map[string]string) (u capability, err error) {
	block, mode := c.GetBlock() != nil, c.GetAccessMode().GetMode()
	switch {
	case c == nil:
		return u, fmt.Errorf("%w: volume_capability is missing", errInvalid)
	case !block && c.GetMount() == nil:
		return u, fmt.Errorf("%w: volume_capability has neither block nor mount", errInvalid)
	}
	u.block = block
	switch mode {
	case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		u.readOnly, u.readersOnly = true, true
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
		// The mount of a device node is no obstacle to writing to the device.
		u.readOnly, u.readersOnly = true, block
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER:
		u.single = true
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
		// An orchestrator that doesn't know the modes for one and many writers
		// on a node shares a SINGLE_NODE_WRITER volume between workloads.
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
	case csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		if !block {
			return u, fmt.Errorf("%w: access mode %v with a filesystem: a filesystem that several nodes mount, of which one writes, loses its content; use volumeMode Block or ReadWriteOnce", errInvalid, mode)
		}
	default:
		return u, fmt.Errorf("%w: access mode %v", errInvalid, mode)
	}
	if publishContext[readOnlyKey] == "true" {
		u.readOnly, u.readersOnly = true, true
	}
	if block {
		return u, nil
	}
	return u.withMount(c.GetMount())
}

func (u capability) withMount(m *csi.VolumeCapability_MountVolume) (capability, error) {
	if m.GetVolumeMountGroup() != "" {
		return u, fmt.Errorf("%w: volume_mount_group is not supported", errInvalid)
	}
	if name := m.GetFsType(); name != "" {
		var err error
		if u.fsType, err = filesystem.TypeOf(name); err != nil {
			return u, fmt.Errorf("%w: %w", errInvalid, err)
		}
	}
	for _, group := range m.GetMountFlags() {
		for _, flag := range splitFlags(group) {
			switch {
			case flag == "" || flag == "rw" || flag == "defaults":
			case flag == "ro":
				u.readOnly = true
			case forbidden(flag):
				return u, fmt.Errorf("%w: mount flag %q is not allowed", errInvalid, flag)
			case !slices.Contains(u.flags, flag):
				u.flags = append(u.flags, flag)
			}
		}
	}
	return u, nil
}

// splitFlags splits mount flags at commas, but for those within double quotes:
// the context that SELinux wants for a volume has some.
func splitFlags(group string) []string {
	quoted := false
	return strings.FieldsFunc(group, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	})
}

// forbidden reports mount flags that would make mount do something else than to
// mount this disk: another kind of mount, a loop device of its own, a helper,
// another disk besides.
func forbidden(flag string) bool {
	name, _, _ := strings.Cut(flag, "=")
	switch name {
	case "bind", "rbind", "move", "remount",
		"shared", "rshared", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable",
		"loop", "offset", "sizelimit", "helper", "uhelper",
		"journal_dev", "journal_path", "logdev", "rtdev", "device":
		return true
	}
	return strings.ContainsRune(flag, 0) || strings.HasPrefix(strings.ToLower(name), "x-mount.")
}

// stageOptions returns the options with which the filesystem itself is mounted.
// What each kind of filesystem needs besides, such as nouuid and to leave the
// journal of a read-only volume alone, FS.Mount knows.
func (u capability) stageOptions() []string {
	if u.readOnly {
		return append(slices.Clone(u.flags), "ro")
	}
	return u.flags
}

// bindOptions returns the flags of a bind mount: those that belong to a mount
// rather than to the filesystem.
func (u capability) bindOptions() []string {
	perMount := []string{"nosuid", "nodev", "noexec", "nosymfollow", "noatime", "nodiratime", "relatime", "strictatime"}
	return slices.DeleteFunc(slices.Clone(u.flags), func(flag string) bool { return !slices.Contains(perMount, flag) })
}

// difference tells in what a mount that exists differs from what is asked for,
// empty if in nothing that matters to a workload. A bind mount inherits the flags
// of the staging mount: those are no difference. Whether the mount is read-only is
// compared by the callers.
func (u capability) difference(mount, staging filesystem.MountPoint) string {
	// mount(8) derives these flags from the ones that let users mount.
	derived := slices.ContainsFunc(u.flags, func(flag string) bool {
		return slices.Contains([]string{"user", "users", "owner", "group"}, flag)
	})
	for _, flag := range []string{"nosuid", "nodev", "noexec", "nosymfollow", "noatime", "nodiratime"} {
		has := slices.Contains(mount.Options, flag)
		wants := slices.Contains(u.flags, flag)
		inherits := slices.Contains(staging.Options, flag)
		switch {
		case wants && !has:
			return "it lacks " + flag
		case has && !wants && !inherits && !derived:
			return "it has " + flag
		}
	}
	return ""
}

// filesystemDifference is difference for the options that belong to a filesystem,
// as far as the kernel shows them in a way that can be compared.
func (u capability) filesystemDifference(mount filesystem.MountPoint) string {
	t, err := filesystem.TypeOf(mount.FSType)
	for _, name := range []string{"data", "discard", "sync", "dirsync"} {
		if name == "discard" && (err != nil || t.OwnDiscard) {
			continue
		}
		wants, has := optionOf(u.flags, name), optionOf(mount.SuperOptions, name)
		switch {
		case wants == has:
		case wants != "":
			return "it lacks " + wants
		default:
			return "it has " + has
		}
	}
	return ""
}

// optionOf returns the last option of that name, with its value, empty if it has its
// default.
func optionOf(options []string, name string) (option string) {
	for _, o := range options {
		switch key, _, _ := strings.Cut(o, "="); key {
		case name:
			option = o
		case "no" + name, "a" + name:
			option = ""
		}
	}
	if option == "data=ordered" {
		return ""
	}
	return option
}

// discards tells whether the disk is to be told what is free as soon as it is.
func (u capability) discards() bool {
	return slices.ContainsFunc(u.flags, func(flag string) bool {
		return flag == "discard" || strings.HasPrefix(flag, "discard=")
	})
}
