package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
	"github.com/cinder-csi/cinder-csi/internal/nearest"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// metadataPrefix begins the mutable parameters that set metadata, as in
// "metadata/owner: team-a".
const metadataPrefix = "metadata/"

// The parameters that this package looks up by name.
const (
	paramType            = "type"
	paramAvailability    = "availability"
	paramAppendMetadata  = "appendVolumeMetadata"
	paramIncremental     = "incremental"
	paramMigrationPolicy = "migrationPolicy"
	paramFSType          = "fstype"
	paramSidecarFSType   = sidecarPrefix + "fstype"
)

// sidecarPrefix begins the keys that belong to the side containers. They take their
// own away and add those of a claim or a VolumeSnapshot (--extra-create-metadata).
const sidecarPrefix = "csi.storage.k8s.io/"

// parameter is a key of a class. The letter case of a key doesn't matter, as it
// didn't for the in-tree plugin; white space around a value doesn't either.
type parameter struct {
	name string
	// others are words of other drivers for it: whoever writes one is told the name.
	others []string
	// value returns a value in one spelling, "" for one that asks for nothing, or
	// says what is wrong with it. Nil takes any.
	value func(string) (string, error)
	// node is the key of the volume context that takes the value to the node; empty
	// for none.
	node string
	// ofBackups: the parameter has an effect on backups only.
	ofBackups bool
	// unused says why this driver does nothing about the parameter, which is in
	// classes that people have; empty where it does.
	unused string
}

// class is a kind of class and the parameters that it may have.
type class struct {
	kind       string
	parameters []parameter
}

const (
	field         = "it is a field of the StorageClass, beside the parameters"
	usedByAnother = "external-provisioner reads it: the current name is " + sidecarPrefix
)

// storageClass is what CreateVolume and ValidateVolumeCapabilities know.
func storageClass() class {
	return class{"StorageClass", []parameter{
		{name: paramType, others: []string{"volumeType", "volume_type", "storageType"}},
		{name: paramAvailability, others: []string{"zone", "zones", "az", "availabilityZone", "availability_zone"}},
		{name: paramAppendMetadata, others: []string{"metadata", "tags", "labels"}},
		{name: "mkfsOptions", node: mkfs.OptionsKey, others: []string{"formatOptions"}},
		{name: "mkfs-options", node: mkfs.OptionsKey},
		{name: "blockSize", node: mkfs.BlockSizeKey, value: number(1, "bytes")},
		{name: "inodeSize", node: mkfs.InodeSizeKey, value: number(1, "bytes")},
		{name: "bytesPerInode", node: mkfs.BytesPerInodeKey, value: number(1, "bytes")},
		{name: "encrypted", node: "cinder.csi.openstack.org/encrypted", value: encryption, others: []string{"encryption"}},
		{name: paramFSType, unused: usedByAnother + "fstype"},
		{name: paramSidecarFSType, unused: "the volume capability names the filesystem"},
		{name: "csiProvisionerSecretName", unused: usedByAnother + "provisioner-secret-name"},
		{name: "csiProvisionerSecretNamespace", unused: usedByAnother + "provisioner-secret-namespace"},
		{name: "csiControllerPublishSecretName", unused: usedByAnother + "controller-publish-secret-name"},
		{name: "csiControllerPublishSecretNamespace", unused: usedByAnother + "controller-publish-secret-namespace"},
		{name: "csiNodeStageSecretName", unused: usedByAnother + "node-stage-secret-name"},
		{name: "csiNodeStageSecretNamespace", unused: usedByAnother + "node-stage-secret-namespace"},
		{name: "csiNodePublishSecretName", unused: usedByAnother + "node-publish-secret-name"},
		{name: "csiNodePublishSecretNamespace", unused: usedByAnother + "node-publish-secret-namespace"},
		{name: "allowVolumeExpansion", value: boolean, unused: field},
		{name: "reclaimPolicy", value: oneOf("Delete", "Retain"), unused: field},
		{name: "volumeBindingMode", value: oneOf("Immediate", "WaitForFirstConsumer"), unused: field},
		{name: "mountOptions", unused: field},
		{name: "multiattach", value: boolean, unused: "the volume type tells whether a volume serves several nodes, and the claim's access mode whether it has to"},
	}}
}

// snapshotClass is what CreateSnapshot knows.
func snapshotClass() class {
	const removed = "external-snapshotter doesn't read it any more: the current name is " + sidecarPrefix
	return class{"VolumeSnapshotClass", []parameter{
		{name: paramType, value: oneOf("snapshot", "backup")},
		{name: paramAvailability, ofBackups: true, others: []string{"zone", "az", "availabilityZone"}},
		{name: paramIncremental, ofBackups: true, value: boolean},
		{name: paramAppendMetadata, others: []string{"metadata", "tags", "labels", "appendSnapshotMetadata"}},
		{name: "force-create", value: boolean, unused: "a volume in use is always snapshotted"},
		{name: "backup-max-duration-seconds-per-gb", value: number(0, "seconds"), unused: "a backup is asked for again until it is ready, however long it takes"},
		{name: "csiSnapshotterSecretName", unused: removed + "snapshotter-secret-name"},
		{name: "csiSnapshotterSecretNamespace", unused: removed + "snapshotter-secret-namespace"},
		{name: "deletionPolicy", value: oneOf("Delete", "Retain"), unused: "it is a field of the VolumeSnapshotClass, beside the parameters"},
	}}
}

// attributesClass is what may be asked of a volume that exists, beside the keys that
// begin with metadataPrefix.
func attributesClass() class {
	return class{"VolumeAttributesClass", []parameter{
		{name: paramType, others: []string{"volumeType", "volume_type"}},
		{name: paramMigrationPolicy, value: oneOf("never", "on-demand")},
	}}
}

// parameters are the values of a class by the names of its table; "" for what is not
// given.
type parameters map[string]string

// remark says why a parameter that is accepted has no effect.
type remark struct{ parameter, why string }

// read returns the parameters of a class by their names, and remarks about those without
// effect. It refuses an unknown one, since a typing error that is ignored makes another
// volume than was asked for; if anything goes, that is a remark.
func (c class) read(raw map[string]string, anything bool) (params parameters, remarks []remark, err error) {
	params = make(parameters, len(raw))
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		at := slices.IndexFunc(c.parameters, func(p parameter) bool { return strings.EqualFold(p.name, key) })
		switch {
		case at >= 0:
		case strings.HasPrefix(strings.ToLower(key), sidecarPrefix):
			continue
		case anything:
			remarks = append(remarks, remark{key, "it is unknown"})
			continue
		default:
			return nil, nil, status.Error(codes.InvalidArgument, c.unknown(key))
		}
		p, value := c.parameters[at], strings.TrimSpace(raw[key])
		if p.value != nil && value != "" {
			if value, err = p.value(value); err != nil {
				return nil, nil, status.Errorf(codes.InvalidArgument, "parameter %s is %q: %v", p.name, raw[key], err)
			}
		}
		if before, twice := params[p.name]; twice && before != value {
			return nil, nil, status.Errorf(codes.InvalidArgument, "parameter %s is given twice, as %q and %q", p.name, before, value)
		}
		params[p.name] = value
		if p.unused != "" {
			remarks = append(remarks, remark{key, p.unused})
		}
	}
	for _, p := range c.parameters {
		if value := params[p.name]; p.ofBackups && params[paramType] != "backup" && value != "" && value != "false" {
			remarks = append(remarks, remark{p.name, "it is for a class whose type is backup"})
		}
	}
	return params, remarks, nil
}

// read returns the parameters of a class. The log has each remark about a class once.
func (s *Server) read(ctx context.Context, c class, raw map[string]string) (parameters, error) {
	params, remarks, err := c.read(raw, s.cfg.AllowUnknownParameters)
	for _, r := range remarks {
		if _, told := s.remarked.LoadOrStore(fmt.Sprint(c.kind, r, params), true); !told {
			logging.From(ctx).Warn("a parameter has no effect", zap.String("class", c.kind), zap.String("parameter", r.parameter),
				zap.String("since", r.why), zap.Any("parameters", params))
		}
	}
	return params, err
}

// lenient returns all parameters of a class by their keys in small letters.
func lenient(raw map[string]string) parameters {
	params := make(parameters, len(raw))
	for key, value := range raw {
		params[strings.ToLower(key)] = strings.TrimSpace(value)
	}
	return params
}

// volumeClass holds the parameters of a StorageClass and a VolumeAttributesClass.
type volumeClass struct {
	parameters parameters
	// node is the volume context that they make.
	node   map[string]string
	change volumes.ModifyRequest
}

// kind is the volume type, empty for Cinder's default.
func (c volumeClass) kind() string { return cmp.Or(c.change.Type, c.parameters[paramType]) }

// readClass reads the classes of a volume that is to have some capabilities. The
// filesystem of a sourced volume comes with its content.
func (s *Server) readClass(ctx context.Context, raw, mutable map[string]string, capabilities []*csi.VolumeCapability, sourced bool) (volumeClass, error) {
	var wanted volumeClass
	var err error
	if wanted.parameters, err = s.read(ctx, storageClass(), raw); err != nil {
		return wanted, err
	}
	if wanted.node, err = storageClass().nodeContext(wanted.parameters); err != nil {
		return wanted, err
	}
	for _, c := range capabilities {
		if err := checkFilesystem(c.GetMount(), wanted, sourced); err != nil {
			return wanted, err
		}
	}
	wanted.change, err = parseMutable(mutable)
	return wanted, err
}

// checkFilesystem refuses a filesystem other than the one that the class names, and one
// that mkfs can't make with the options of the class: the node would refuse those, too,
// but not before the volume exists.
func checkFilesystem(mount *csi.VolumeCapability_MountVolume, wanted volumeClass, sourced bool) error {
	if mount == nil {
		return nil
	}
	for _, name := range []string{paramFSType, paramSidecarFSType} {
		if named := wanted.parameters[name]; named != "" && mount.GetFsType() != "" && !strings.EqualFold(named, mount.GetFsType()) {
			return status.Errorf(codes.InvalidArgument, "parameter %s is %q, but the volume capability asks for %q", name, named, mount.GetFsType())
		}
	}
	if sourced {
		return nil
	}
	types := filesystem.Types() // the node chooses: ext4 where its operator says nothing else
	if mount.GetFsType() != "" {
		t, err := filesystem.TypeOf(mount.GetFsType())
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		types = []*filesystem.Type{t}
	}
	var refused error
	for _, t := range types {
		_, err := t.MkfsOptions(wanted.node)
		if err == nil {
			return nil
		}
		refused = cmp.Or(refused, err)
	}
	return status.Error(codes.InvalidArgument, refused.Error())
}

// unknown is the text of the error for a key that is in no table.
func (c class) unknown(key string) string {
	var used, names []string
	meant := ""
	for _, p := range c.parameters {
		names = append(names, p.name)
		if slices.ContainsFunc(p.others, func(word string) bool { return strings.EqualFold(word, key) }) {
			meant = p.name
		}
		if p.unused == "" {
			used = append(used, p.name)
		}
	}
	return fmt.Sprintf("parameter %q is unknown; there are %s and those that begin with %s; the nearest to it is %s",
		key, strings.Join(used, ", "), sidecarPrefix, cmp.Or(meant, nearest.Of(key, names)))
}

// nodeContext returns the volume context that takes parameters to the node.
func (c class) nodeContext(params parameters) (map[string]string, error) {
	context := make(map[string]string)
	for _, p := range c.parameters {
		value := params[p.name]
		if p.node == "" || value == "" {
			continue
		}
		if before, twice := context[p.node]; twice && before != value {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %s is given in two spellings, as %q and %q", p.name, before, value)
		}
		context[p.node] = value
	}
	return context, nil
}

// number takes whole numbers of some unit from least on.
func number(least uint64, unit string) func(string) (string, error) {
	return func(value string) (string, error) {
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || n < least {
			return "", errors.New("it must be a number of " + unit)
		}
		return strconv.FormatUint(n, 10), nil
	}
}

// boolean takes true, false and what else strconv.ParseBool does.
func boolean(value string) (string, error) {
	set, err := strconv.ParseBool(value)
	if err != nil {
		return "", errors.New("it must be true or false")
	}
	return strconv.FormatBool(set), nil
}

// encryption takes luks2, and false for none.
func encryption(value string) (string, error) {
	if set, err := strconv.ParseBool(value); err == nil && !set {
		return "", nil
	}
	if !strings.EqualFold(value, "luks2") {
		return "", errors.New("it must be luks2, or false; a volume type may encrypt as well")
	}
	return "luks2", nil
}

// oneOf takes some words in any letter case.
func oneOf(words ...string) func(string) (string, error) {
	return func(value string) (string, error) {
		for _, word := range words {
			if strings.EqualFold(word, value) {
				return word, nil
			}
		}
		return "", errors.New("there are " + strings.Join(words, " and "))
	}
}
