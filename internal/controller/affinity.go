package controller

import (
	"context"
	"strings"

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

// claim returns what reads from the annotations of the claim that a volume is made for
// what the volume is to be near and which tags it gets, beside its metadata. It returns
// nil where claims are not looked at.
func (s *Server) claim(raw, metadata map[string]string) func(context.Context) (volumes.Affinity, error) {
	if s.cfg.Annotations == nil {
		return nil
	}
	return func(ctx context.Context) (claim volumes.Affinity, err error) {
		annotations, err := s.annotations(ctx, claimOwner(), raw)
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
