package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/claims"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// maxTags is the largest number of tags that one object's annotations may ask for.
const maxTags = 50

// owner is a Kubernetes object that something is made for: the variables that stand
// for it in templates, and the parameters in which a side container tells it
// (--extra-create-metadata).
type owner struct {
	// resource is the API path of the object; see claims.Client.Annotations.
	resource        string
	namespace, name string
	variables       map[string]string
}

// claimOwner is the PersistentVolumeClaim of a volume.
func claimOwner() owner {
	return owner{claims.Claims, sidecarPrefix + "pvc/namespace", sidecarPrefix + "pvc/name", map[string]string{
		"pvc.name": sidecarPrefix + "pvc/name", "pvc.namespace": sidecarPrefix + "pvc/namespace", "pv.name": sidecarPrefix + "pv/name",
	}}
}

// snapshotOwner is the VolumeSnapshot of a snapshot or a backup.
func snapshotOwner() owner {
	const prefix = sidecarPrefix + "volumesnapshot/"
	return owner{claims.Snapshots, prefix + "namespace", prefix + "name", map[string]string{
		"volumesnapshot.name": prefix + "name", "volumesnapshot.namespace": prefix + "namespace",
		"volumesnapshotcontent.name": sidecarPrefix + "volumesnapshotcontent/name",
	}}
}

// metadata is recorded with what is made: what a side container tells, and the parameter appendVolumeMetadata, a JSON object of strings in which
// variables as ${pvc.name} stand for the object that the volume or snapshot is for.
func (o owner) metadata(raw map[string]string, params parameters) (map[string]string, error) {
	metadata := make(map[string]string)
	for _, key := range o.variables {
		if value, ok := raw[key]; ok {
			metadata[key] = value
		}
	}
	var templates map[string]string
	if text := params[paramAppendMetadata]; text != "" {
		if err := json.Unmarshal([]byte(text), &templates); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "parameter %s is not a JSON object of strings: %v", paramAppendMetadata, err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(templates)) {
		value, err := o.expand(templates[key], raw)
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

// expand replaces the variables of a template by what the side container tells.
func (o owner) expand(template string, raw map[string]string) (string, error) {
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
		key, ok := o.variables[name]
		if !ok {
			return "", fmt.Errorf("${%s} is unknown; there are ${%s}", name, strings.Join(slices.Sorted(maps.Keys(o.variables)), "}, ${"))
		}
		value, ok := raw[key]
		if !ok {
			return "", fmt.Errorf("${%s} is known only if the side container runs with --extra-create-metadata", name)
		}
		b.WriteString(value)
		template = rest
	}
}

// annotations returns those of the object that something is made for.
func (s *Server) annotations(ctx context.Context, o owner, raw map[string]string) (map[string]string, error) {
	namespace, name := raw[o.namespace], raw[o.name]
	if namespace == "" || name == "" {
		return nil, status.Errorf(codes.FailedPrecondition,
			"--pvc-annotations is set, but %s and %s are missing: the side container has to run with --extra-create-metadata", o.namespace, o.name)
	}
	return s.cfg.Annotations(ctx, o.resource, namespace, name)
}

// tags returns the metadata that annotations ask for, whose keys begin with the prefix
// that the operator has chosen. An annotation never replaces what the operator's flags
// or a class say.
func (s *Server) tags(annotations, metadata map[string]string) (map[string]string, error) {
	tags := make(map[string]string)
	for _, annotation := range slices.Sorted(maps.Keys(annotations)) {
		key, ok := strings.CutPrefix(annotation, s.cfg.TagPrefix)
		if !ok || s.cfg.TagPrefix == "" {
			continue
		}
		value := annotations[annotation]
		err := checkMetadata(key, value)
		for _, above := range []map[string]string{s.cfg.ExtraTags, metadata} {
			if before, taken := above[key]; err == nil && taken && before != value {
				err = fmt.Errorf("--extra-tags or the class sets %s to %q", key, before)
			}
		}
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "annotation %s: %v", annotation, err)
		}
		tags[key] = value
	}
	if len(tags) > maxTags {
		return nil, status.Errorf(codes.InvalidArgument, "%d annotations begin with %s, at most %d are possible", len(tags), s.cfg.TagPrefix, maxTags)
	}
	return tags, nil
}

// checkMetadata refuses what volumes.CheckMetadata does, and the keys that side containers
// tell.
func checkMetadata(key, value string) error {
	if strings.HasPrefix(strings.ToLower(strings.TrimSpace(key)), sidecarPrefix) {
		return fmt.Errorf("metadata key %s: keys that begin with %s are the driver's own", key, sidecarPrefix)
	}
	return volumes.CheckMetadata(map[string]string{key: value})
}
