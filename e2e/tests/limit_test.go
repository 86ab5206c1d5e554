package tests

import (
	"context"
	"fmt"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// isFull: a node that has as many volumes as it takes gets no more of them: the
// pod stays pending, the scheduler says why, and it runs when there is room.
func isFull(s *scenario) {
	const limit = 2
	node, err := s.abroad()
	s.must(err, "choosing a node")
	s.limitNodes(node, limit)
	for i := range limit {
		s.running(fmt.Sprintf("pod-%d", i), withClaim(s.claim(fmt.Sprintf("data-%d", i), ext4)), onNode(node))
	}
	s.pod("one-more", idle, withClaim(s.claim("one-more", ext4)), onNode(node))
	s.unschedulable("one-more", "exceed max volume count")
	s.deletePod("pod-0")
	s.ready("one-more")
}

// resourceExhausted is the code of gRPC by which a driver says that a node is full.
const resourceExhausted = 8

// isRefused: a server that takes fewer disks than was announced refuses one more;
// the driver says so with the code by which Kubernetes knows a full node, and
// attaches the volume as soon as there is room.
func isRefused(s *scenario) {
	node, err := s.abroad()
	s.must(err, "choosing a node")
	behaviour, err := s.cloud.Behaviour(s.Context())
	s.must(err, "asking how the cloud behaves")
	usual := behaviour
	s.afterwards("letting servers have more disks", func(ctx context.Context) error { return s.cloud.SetBehaviour(ctx, usual) })
	behaviour.MaxDisks = 2 // the system's and one volume
	s.must(s.cloud.SetBehaviour(s.Context(), behaviour), "limiting servers to %d disks", behaviour.MaxDisks)

	s.running("first", withClaim(s.claim("first", ext4)), onNode(node))
	s.pod("second", idle, withClaim(s.claim("second", ext4)), onNode(node))
	pv := s.bound("second")
	s.eventually("the second volume to be refused", func(ctx context.Context) error { return s.refusedAsFull(ctx, pv.Name) })
	s.eventually("the user to be told", func(ctx context.Context) error {
		return s.told(ctx, s.namespace, "second", "FailedAttachVolume", "maximum allowed number of disk devices")
	})
	s.must(s.cloud.SetBehaviour(s.Context(), usual), "letting servers have more disks")
	s.ready("second")
}

// refusedAsFull wants the attachment of a volume to have failed because the node
// is full.
func (s *scenario) refusedAsFull(ctx context.Context, volume string) error {
	list, err := s.kube.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, a := range list.Items {
		if name := a.Spec.Source.PersistentVolumeName; name == nil || *name != volume {
			continue
		}
		if e := a.Status.AttachError; e == nil || e.ErrorCode == nil || *e.ErrorCode != resourceExhausted {
			return fmt.Errorf("its attachment says %+v", e)
		}
		return nil
	}
	return fmt.Errorf("volume %s has no attachment", volume)
}

// announced is how many volumes the driver says that a node takes; -1 where it
// says nothing.
func announced(n *storagev1.CSINode) int32 {
	for _, d := range n.Spec.Drivers {
		if d.Name == driverName && d.Allocatable != nil && d.Allocatable.Count != nil {
			return *d.Allocatable.Count
		}
	}
	return -1
}
