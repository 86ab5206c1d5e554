package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// The annotations of a claim that name volumes whose back end host is to be
// shared, or avoided; and the keys of the volume context that tell which
// volumes these were.
const (
	affinityAnnotation     = "cinder.csi.openstack.org/affinity"
	antiAffinityAnnotation = "cinder.csi.openstack.org/anti-affinity"
)

// maxTags is the largest number of tags that one object's annotations may ask for.
const maxTags = 50

// object is a Kubernetes object for which a volume or a snapshot is made.
type object struct {
	// kind is what kube.Client.Annotations calls it.
	kind kube.Resource
	// namespace and name are the parameters in which a side container tells them where
	// it runs with --extra-create-metadata.
	namespace, name string
	// variables of templates, and the parameters that hold their values.
	variables map[string]string
}

// claimObject is the PersistentVolumeClaim of a volume.
func claimObject() object {
	const prefix = sidecarPrefix + "pvc/"
	return object{kube.Claims, prefix + "namespace", prefix + "name", map[string]string{
		"pvc.name": prefix + "name", "pvc.namespace": prefix + "namespace", "pv.name": sidecarPrefix + "pv/name",
	}}
}

// snapshotObject is the VolumeSnapshot of a snapshot or a backup.
func snapshotObject() object {
	const prefix = sidecarPrefix + "volumesnapshot/"
	return object{kube.Snapshots, prefix + "namespace", prefix + "name", map[string]string{
		"volumesnapshot.name": prefix + "name", "volumesnapshot.namespace": prefix + "namespace",
		"volumesnapshotcontent.name": sidecarPrefix + "volumesnapshotcontent/name",
	}}
}

// metadata returns the metadata of a new volume or snapshot: the names that a side
// container tells, and the parameter appendVolumeMetadata, a JSON object of strings. In
// those, variables such as ${pvc.name} stand for the names.
func (o object) metadata(raw map[string]string, params parameters) (map[string]string, error) {
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

// variables are those of templates, the last one perhaps unclosed.
var variables = regexp.MustCompile(`\$\{[^}]*\}?`)

// expand replaces the variables of a template by what the side container tells.
func (o object) expand(template string, raw map[string]string) (expanded string, err error) {
	expanded = variables.ReplaceAllStringFunc(template, func(variable string) string {
		name, closed := strings.CutSuffix(variable[2:], "}")
		key, known := o.variables[name]
		value, told := raw[key]
		switch {
		case !closed:
			err = fmt.Errorf("%s is not closed", variable)
		case !known:
			err = fmt.Errorf("%s is unknown; there are ${%s}", variable, strings.Join(slices.Sorted(maps.Keys(o.variables)), "}, ${"))
		case !told:
			err = fmt.Errorf("%s is known only if the side container runs with --extra-create-metadata", variable)
		}
		return value
	})
	return expanded, err
}

// claim returns a function that reads the claim of a volume: which volumes it is to be near
// and far from, and which tags it gets beside its metadata. It returns nil where claims
// are not read.
func (s *Server) claim(raw, metadata map[string]string) func(context.Context) (volumes.Claim, error) {
	if s.cfg.Annotations == nil {
		return nil
	}
	return func(ctx context.Context) (claim volumes.Claim, err error) {
		annotations, err := s.annotations(ctx, claimObject(), raw)
		if err != nil {
			return claim, err
		}
		claim.SameHost = split(annotations[affinityAnnotation])
		claim.DifferentHost = split(annotations[antiAffinityAnnotation])
		claim.Metadata, err = s.tags(annotations, metadata)
		return claim, err
	}
}

// split returns the elements of a comma separated list.
func split(list string) []string {
	var elements []string
	for element := range strings.SplitSeq(list, ",") {
		if element = strings.TrimSpace(element); element != "" {
			elements = append(elements, element)
		}
	}
	return elements
}

// annotations returns the annotations of the object that a volume or snapshot is made for.
func (s *Server) annotations(ctx context.Context, o object, raw map[string]string) (map[string]string, error) {
	namespace, name := raw[o.namespace], raw[o.name]
	if namespace == "" || name == "" {
		return nil, status.Errorf(codes.FailedPrecondition,
			"--pvc-annotations is set, but %s and %s are missing: the side container has to run with --extra-create-metadata", o.namespace, o.name)
	}
	return s.cfg.Annotations(ctx, o.kind, namespace, name)
}

// tags returns the metadata for which annotations ask: those whose keys begin with the
// prefix that the operator has chosen. An annotation never replaces what the operator's
// flags or a class set, in any letter case.
func (s *Server) tags(annotations, metadata map[string]string) (map[string]string, error) {
	tags := make(map[string]string)
	set := maps.Clone(metadata)
	maps.Copy(set, s.cfg.ExtraTags)
	for _, annotation := range slices.Sorted(maps.Keys(annotations)) {
		key, ok := strings.CutPrefix(annotation, s.cfg.TagPrefix)
		if !ok || s.cfg.TagPrefix == "" {
			continue
		}
		value := annotations[annotation]
		err := checkMetadata(key, value)
		for name, before := range set {
			if err == nil && strings.EqualFold(name, key) && before != value {
				err = fmt.Errorf("--extra-tags or the class sets %s to %q", name, before)
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
	if key == "" {
		return errors.New("the key of the metadata is empty")
	}
	if strings.HasPrefix(strings.ToLower(strings.TrimSpace(key)), sidecarPrefix) {
		return fmt.Errorf("metadata key %s: keys that begin with %s are the driver's own", key, sidecarPrefix)
	}
	return volumes.CheckMetadata(map[string]string{key: value})
}
