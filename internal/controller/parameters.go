package controller

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sidecarPrefix begins the keys that the sidecars add to the parameters.
const sidecarPrefix = "csi.storage.k8s.io/"

// volumeMetadataKeys are the keys of the sidecars that are recorded with a volume.
func volumeMetadataKeys() []string {
	return []string{"csi.storage.k8s.io/pvc/name", "csi.storage.k8s.io/pvc/namespace", "csi.storage.k8s.io/pv/name"}
}

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
	paramType         = "type"
	paramAvailability = "availability"
	paramForceCreate  = "force-create"
	paramBackupLimit  = "backup-max-duration-seconds-per-gb"
)

// parameters are the parameters of a class, by lower-case key: classes made for
// the in-tree plugin use other spellings.
type parameters map[string]string

// parseParameters folds the case of the keys and refuses unknown ones: a typing
// error that is ignored makes a volume of another type than was asked for.
func parseParameters(raw map[string]string, known ...string) (parameters, error) {
	parsed := make(parameters, len(known))
	for key, value := range raw {
		if strings.HasPrefix(strings.ToLower(key), sidecarPrefix) {
			continue
		}
		folded := strings.ToLower(key)
		if !slices.Contains(known, folded) {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %q is unknown; there are %s and those that begin with %s",
				key, strings.Join(known, ", "), sidecarPrefix)
		}
		if before, twice := parsed[folded]; twice && before != value {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %s is given twice, as %q and %q", folded, before, value)
		}
		parsed[folded] = value
	}
	return parsed, nil
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
