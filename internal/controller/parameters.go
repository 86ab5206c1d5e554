package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// sidecarPrefix begins the keys that the sidecars add to the parameters.
const sidecarPrefix = "csi.storage.k8s.io/"

// The keys that the provisioner adds when it is told to (--extra-create-metadata).
const (
	pvcName      = sidecarPrefix + "pvc/name"
	pvcNamespace = sidecarPrefix + "pvc/namespace"
	pvName       = sidecarPrefix + "pv/name"
)

// volumeMetadataKeys are the keys of the sidecars that are recorded with a volume.
func volumeMetadataKeys() []string { return []string{pvcName, pvcNamespace, pvName} }

// snapshotMetadataKeys are those that are recorded with a snapshot.
func snapshotMetadataKeys() []string {
	return []string{
		"csi.storage.k8s.io/volumesnapshot/name",
		"csi.storage.k8s.io/volumesnapshot/namespace",
		"csi.storage.k8s.io/volumesnapshotcontent/name",
	}
}

// The parameters of StorageClasses and VolumeSnapshotClasses.
const (
	paramType           = "type"
	paramAvailability   = "availability"
	paramAppendMetadata = "appendVolumeMetadata"
	paramForceCreate    = "force-create"
	paramBackupLimit    = "backup-max-duration-seconds-per-gb"
)

// createParameters are the keys that CreateVolume knows.
func createParameters() []string {
	known := []string{paramType, paramAvailability, paramAppendMetadata}
	for _, o := range formatOptions() {
		known = append(known, o.parameter)
	}
	return known
}

// parameters are the parameters of a class, by lower-case key: classes made for
// the in-tree plugin use other spellings.
type parameters map[string]string

// get returns a parameter by its name, empty where it is not given.
func (p parameters) get(name string) string { return p[strings.ToLower(name)] }

// classParameters reads the parameters of a class. Unknown ones are refused,
// since a typing error that is ignored makes a volume of another type than was
// asked for; or told in the log, for classes of other drivers, where the
// operator says so.
func (s *Server) classParameters(ctx context.Context, raw map[string]string, known []string) (parameters, error) {
	if s.cfg.AllowUnknownParameters {
		kept := make(map[string]string, len(raw))
		for key, value := range raw {
			if !isSidecars(key) && !isKnown(key, known) {
				logging.From(ctx).Warn("a parameter that is unknown is passed over", zap.String("parameter", key))
				continue
			}
			kept[key] = value
		}
		raw = kept
	}
	return parseParameters(raw, known...)
}

// parseParameters folds the case of the keys and refuses unknown ones.
func parseParameters(raw map[string]string, known ...string) (parameters, error) {
	parsed := make(parameters, len(known))
	for key, value := range raw {
		if isSidecars(key) {
			continue
		}
		if !isKnown(key, known) {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %q is unknown; there are %s and those that begin with %s",
				key, strings.Join(known, ", "), sidecarPrefix)
		}
		folded := strings.ToLower(key)
		if before, twice := parsed[folded]; twice && before != value {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %s is given twice, as %q and %q", folded, before, value)
		}
		parsed[folded] = value
	}
	return parsed, nil
}

func isSidecars(key string) bool { return strings.HasPrefix(strings.ToLower(key), sidecarPrefix) }

func isKnown(key string, known []string) bool {
	return slices.ContainsFunc(known, func(name string) bool { return strings.EqualFold(name, key) })
}

// metadataOf picks the keys that are recorded with what is made.
func metadataOf(raw map[string]string, keys []string) map[string]string {
	metadata := make(map[string]string, len(keys))
	for _, key := range keys {
		if value, ok := raw[key]; ok {
			metadata[key] = value
		}
	}
	return metadata
}

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
		t, err := filesystem.TypeOf(cmp.Or(c.GetMount().GetFsType(), "ext4"))
		if err == nil {
			_, err = t.MkfsOptions(context)
		}
		if err == nil {
			continue
		}
		// Where none is named, it is the node's to choose.
		takes := func(t *filesystem.Type) bool {
			_, err := t.MkfsOptions(context)
			return err == nil
		}
		if c.GetMount().GetFsType() != "" || !slices.ContainsFunc(filesystem.Types(), takes) {
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

// appendedMetadata reads the parameter appendVolumeMetadata: a JSON object of
// strings, in which ${pvc.name}, ${pvc.namespace} and ${pv.name} stand for what
// the volume is made for.
func appendedMetadata(params parameters, raw map[string]string) (map[string]string, error) {
	text := params.get(paramAppendMetadata)
	if text == "" {
		return nil, nil
	}
	var templates map[string]string
	if err := json.Unmarshal([]byte(text), &templates); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "parameter %s is not a JSON object of strings: %v", paramAppendMetadata, err)
	}
	metadata := make(map[string]string, len(templates))
	for key, template := range templates {
		value, err := expand(template, raw)
		if err == nil {
			err = checkMetadata(key, value)
		}
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %s, key %q: %v", paramAppendMetadata, key, err)
		}
		metadata[key] = value
	}
	return metadata, nil
}

// expand replaces the variables of a template by what the sidecar tells.
func expand(template string, raw map[string]string) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(template, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return "", fmt.Errorf("${%s is not closed", after)
		}
		key, ok := map[string]string{"pvc.name": pvcName, "pvc.namespace": pvcNamespace, "pv.name": pvName}[name]
		if !ok {
			return "", fmt.Errorf("${%s} is unknown; there are ${pvc.name}, ${pvc.namespace} and ${pv.name}", name)
		}
		value, ok := raw[key]
		if !ok {
			return "", fmt.Errorf("${%s} is known only if the provisioner runs with --extra-create-metadata", name)
		}
		b.WriteString(value)
		template = rest
	}
}

// checkMetadata refuses metadata that Cinder would not take, or by which the
// driver or Cinder itself recognises a volume.
func checkMetadata(key, value string) error {
	switch {
	case key == "":
		return errors.New("the key of the metadata is empty")
	case utf8.RuneCountInString(key) > maxMetadata, utf8.RuneCountInString(value) > maxMetadata:
		return fmt.Errorf("metadata has at most %d characters in a key and in a value", maxMetadata)
	}
	// The database of most clouds takes a key in other letter case, or with blanks at
	// its end, for the same when it changes one.
	switch folded := strings.TrimSpace(strings.ToLower(key)); {
	case strings.HasPrefix(folded, volumes.ReservedPrefix), strings.HasPrefix(folded, sidecarPrefix):
		return fmt.Errorf("metadata key %s is the driver's own", key)
	case folded == "readonly", folded == "attached_mode", folded == "src_backup_id":
		return fmt.Errorf("metadata key %s is Cinder's own", key)
	}
	return nil
}
