package controller

import (
	"context"
	"slices"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/logging"
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
