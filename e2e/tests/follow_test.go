package tests

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// copiesFollow: copies are made in the zone of their source, where the cloud
// wants them, although the scheduler has chosen a node in another zone, which
// the pod would like best; the pod then runs where its volume is.
func copiesFollow(s *scenario) {
	there, err := s.abroad()
	s.must(err, "choosing a node")
	claim := s.claim("original", xfs)
	original := s.running("original", withClaim(claim), onNode(there))
	blob := s.fill(original, dataDir+"/blob", 8)
	snapshot := s.snapshot("snapshot", claim)
	for name, source := range map[string]claimOption{
		"restored": from("VolumeSnapshot", snapshot), "clone": from("PersistentVolumeClaim", claim),
	} {
		s.claim(name, xfs, source)
		s.running(name, withClaim(name), likesZone(s.twinZone()))
		s.same(name, dataDir+"/blob", 8, blob)
		if v := s.cloudVolume(name); v.Zone != s.zoneOf(there) {
			s.Errorf("volume %s of claim %s is in zone %s, its source is in %s", v.ID, name, v.Zone, s.zoneOf(there))
		}
		pod, err := s.pods().Get(s.Context(), name, metav1.GetOptions{})
		s.must(err, "reading pod %s", name)
		if zone := s.zoneOf(pod.Spec.NodeName); zone != s.zoneOf(there) {
			s.Errorf("pod %s runs in zone %s, its volume is in %s", name, zone, s.zoneOf(there))
		}
	}
	s.deleteSnapshot(snapshot)
}

// likesZone has the scheduler choose a node in a zone if it can.
func likesZone(zone string) podOption {
	return func(spec *corev1.PodSpec) {
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 100, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
					{Key: zoneKey, Operator: corev1.NodeSelectorOpIn, Values: []string{zone}},
				}},
			}},
		}}
	}
}
