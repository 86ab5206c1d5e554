package tests

import (
	"bytes"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volumesGone waits until the persistent volumes are deleted, with their
// attachments.
func (s *scenario) volumesGone(ctx context.Context, volumes []corev1.PersistentVolume) error {
	names := map[string]bool{}
	for _, volume := range volumes {
		names[volume.Name] = true
		if err := s.volumeGone(ctx, volume.Name); err != nil {
			return fmt.Errorf("volume %s of claim %s: %w", volume.Name, volume.Spec.ClaimRef.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	return repeat(ctx, func(ctx context.Context) error {
		list, err := s.kube.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, a := range list.Items {
			if pv := a.Spec.Source.PersistentVolumeName; pv != nil && names[*pv] {
				return fmt.Errorf("attachment %s of volume %s to %s is left, finalizers %v", a.Name, *pv, a.Spec.NodeName, a.Finalizers)
			}
		}
		return nil
	})
}

// volumeGone waits until a persistent volume is deleted.
func (s *scenario) volumeGone(ctx context.Context, name string) error {
	return awaitGone(ctx, s.kube.CoreV1().PersistentVolumes(), name, func(pv *corev1.PersistentVolume) error {
		return fmt.Errorf("it is still there, %s, reclaim policy %s, finalizers %v", pv.Status.Phase, pv.Spec.PersistentVolumeReclaimPolicy, pv.Finalizers)
	})
}

// nothingOnTheNodes holds the nodes to having none of the volumes mounted.
func (s *scenario) nothingOnTheNodes(ctx context.Context, volumes []corev1.PersistentVolume) error {
	for _, node := range s.cluster.Nodes {
		mounts, err := s.cluster.Exec(ctx, node.Name, "cat", "/proc/mounts")
		if err != nil {
			return fmt.Errorf("reading the mounts of %s: %w", node.Name, err)
		}
		for _, volume := range volumes {
			if bytes.Contains(mounts, []byte(volume.Name)) {
				return fmt.Errorf("volume %s is still mounted on %s:\n%s", volume.Name, node.Name, mounts)
			}
		}
	}
	return nil
}
