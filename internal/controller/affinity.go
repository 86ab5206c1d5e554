package controller

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// The annotations of a claim that name volumes whose back end host is to be
// shared, or avoided; and the keys of the volume context that tell which
// volumes these were.
const (
	affinityAnnotation     = "cinder.csi.openstack.org/affinity"
	antiAffinityAnnotation = "cinder.csi.openstack.org/anti-affinity"
)

// affinity returns what reads the affinity of the claim that a volume is made
// for, nil where claims are not looked at.
func (s *Server) affinity(parameters map[string]string) func(context.Context) (volumes.Affinity, error) {
	if s.cfg.Annotations == nil {
		return nil
	}
	return func(ctx context.Context) (volumes.Affinity, error) {
		namespace, name := parameters[pvcNamespace], parameters[pvcName]
		if namespace == "" || name == "" {
			return volumes.Affinity{}, status.Errorf(codes.FailedPrecondition,
				"--pvc-annotations is set, but %s and %s are missing: the provisioner has to run with --extra-create-metadata", pvcNamespace, pvcName)
		}
		annotations, err := s.cfg.Annotations(ctx, namespace, name)
		if err != nil {
			return volumes.Affinity{}, err
		}
		return volumes.Affinity{
			SameHost:      split(annotations[affinityAnnotation]),
			DifferentHost: split(annotations[antiAffinityAnnotation]),
		}, nil
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

// addAffinity tells in a volume context what a volume was made near to, and far
// from. It is read from the volume, so that it is the same in every answer.
func addAffinity(context map[string]string, v *cloud.Volume) {
	same, different := volumes.AffinityOf(v)
	if same != "" {
		context[affinityAnnotation] = same
	}
	if different != "" {
		context[antiAffinityAnnotation] = different
	}
}
