package tests

import (
	corev1 "k8s.io/api/core/v1"
)

// comesAndGoes: a generic ephemeral volume is made with its pod and goes with it.
func comesAndGoes(s *scenario) {
	pod := s.running("pod", func(spec *corev1.PodSpec) {
		spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			Ephemeral: &corev1.EphemeralVolumeSource{
				VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: s.claimSpec(xfs)},
			},
		}}}
		mountData(spec)
	})
	const claim = "pod-data"
	s.fill(pod, dataDir+"/blob", 4)
	s.cloudSize(claim, 1)
	pv := s.bound(claim)
	s.deletePod(pod)
	untilGone[corev1.PersistentVolumeClaim](s, s.claims(), claim)
	untilGone[corev1.PersistentVolume](s, s.kube.CoreV1().PersistentVolumes(), pv.Name)
}
