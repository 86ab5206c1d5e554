package tests

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// isKept: with the reclaim policy Retain the volume stays when its claim goes,
// another claim can have it, with its data, and with the policy Delete it goes.
func isKept(s *scenario) {
	s.afterwards("giving up what was retained", s.deleteRetained)
	pvs := s.kube.CoreV1().PersistentVolumes()
	claim := s.claim("first", retain)
	blob := s.fill(s.running("first", withClaim(claim)), dataDir+"/blob", 8)
	pv, volume := s.bound(claim), s.cloudVolume(claim)
	s.deletePod("first")
	s.deleteClaim(claim)
	until(s, pvs, pv.Name, "to be released", phase(corev1.VolumeReleased))
	if still := s.cloudVolume(claim); still.ID != volume.ID {
		s.Fatalf("volume %s took the place of %s", still.ID, volume.ID)
	}

	patch := fmt.Sprintf(`{"spec": {"claimRef": {"name": "second", "namespace": %q, "uid": null, "resourceVersion": null}}}`, s.namespace)
	_, err := pvs.Patch(s.Context(), pv.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	s.must(err, "offering volume %s to another claim", pv.Name)
	s.claim("second", retain, func(spec *corev1.PersistentVolumeClaimSpec) { spec.VolumeName = pv.Name })
	s.same(s.running("second", withClaim("second")), dataDir+"/blob", 8, blob)
	if again := s.bound("second"); handleOf(*again) != volume.ID {
		s.Errorf("the second claim has volume %s, not %s", handleOf(*again), volume.ID)
	}
	s.deletePod("second")

	s.must(s.deleteRetained(s.Context()), "changing the reclaim policy")
	s.deleteClaim("second")
	untilGone[corev1.PersistentVolume](s, pvs, pv.Name)
}

// phase waits for a persistent volume to be in a phase.
func phase(want corev1.PersistentVolumePhase) func(*corev1.PersistentVolume) error {
	return func(pv *corev1.PersistentVolume) error {
		if pv.Status.Phase != want {
			return fmt.Errorf("it is %s: %s", pv.Status.Phase, pv.Status.Message)
		}
		return nil
	}
}

// deleteRetained gives the volumes of the namespace the reclaim policy Delete.
func (s *scenario) deleteRetained(ctx context.Context) error {
	volumes, err := s.persistentVolumes(ctx)
	if err != nil {
		return err
	}
	for _, pv := range volumes {
		if pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
			continue
		}
		patch := []byte(`{"spec": {"persistentVolumeReclaimPolicy": "Delete"}}`)
		if _, err := s.kube.CoreV1().PersistentVolumes().Patch(ctx, pv.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// isProtected: a claim that is deleted while its pod runs goes only with the
// pod, which doesn't notice.
func isProtected(s *scenario) {
	claim := s.claim("data", xfs)
	w := s.writer("writer", withClaim(claim))
	pv := s.bound(claim)
	s.deleteClaim(claim)
	w.advances()
	c, err := s.claims().Get(s.Context(), claim, metav1.GetOptions{})
	s.must(err, "reading claim %s, which its pod protects", claim)
	if c.DeletionTimestamp == nil || c.Status.Phase != corev1.ClaimBound {
		s.Errorf("claim %s is %s, deleted at %v; it should be bound and about to go", claim, c.Status.Phase, c.DeletionTimestamp)
	}
	s.attachedTo(claim, s.ready(w.pod).Spec.NodeName)
	w.neverStopped()
	s.deletePod(w.pod)
	untilGone[corev1.PersistentVolumeClaim](s, s.claims(), claim)
	untilGone[corev1.PersistentVolume](s, s.kube.CoreV1().PersistentVolumes(), pv.Name)
}
