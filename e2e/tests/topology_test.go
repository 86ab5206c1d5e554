package tests

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// spreads: the volumes of a StatefulSet that is spread over the zones are where
// their pods are, and a pod that is replaced comes back to its volume's zone.
func spreads(s *scenario) {
	const replicas = 3
	s.statefulSet("set", replicas, ext4, writing, func(spec *corev1.PodSpec) {
		spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: zoneKey, WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "set"}},
		}}
	})
	zones := map[string]int{}
	for i := range replicas {
		w := s.watchWriter(fmt.Sprintf("set-%d", i))
		zones[s.inItsZone(w.pod)]++
		w.neverStopped()
	}
	if len(zones) < 2 {
		s.Errorf("all pods are in one zone: %v", zones)
	}
	for i := range replicas {
		old, err := s.pods().Get(s.Context(), fmt.Sprintf("set-%d", i), metav1.GetOptions{})
		s.must(err, "reading a pod")
		was, zone := s.watchWriter(old.Name).advances(), s.zoneOf(old.Spec.NodeName)
		s.must(s.pods().Delete(s.Context(), old.Name, metav1.DeleteOptions{}), "deleting pod %s", old.Name)
		s.replaced(old)
		w := s.watchWriter(old.Name)
		if again := s.inItsZone(w.pod); again != zone {
			s.Errorf("pod %s came back in zone %s, its volume was in %s", w.pod, again, zone)
		}
		if is := w.advances(); is < was {
			s.Errorf("pod %s has %d records, the pod before it had %d", w.pod, is, was)
		}
		w.complete()
	}
}

// inItsZone holds the volume of a StatefulSet's pod to the zone of the pod's
// node, and returns the zone.
func (s *scenario) inItsZone(pod string) string {
	s.Helper()
	p, err := s.pods().Get(s.Context(), pod, metav1.GetOptions{})
	s.must(err, "reading pod %s", pod)
	zone, volume := s.zoneOf(p.Spec.NodeName), s.cloudVolume(claimOf(pod))
	if volume.Zone != zone {
		s.Errorf("pod %s runs on %s in zone %s, its volume %s is in zone %s", pod, p.Spec.NodeName, zone, volume.ID, volume.Zone)
	}
	return zone
}

// onlyWhereAllowed: a class that allows one zone makes volumes there, whether it
// waits for a consumer or not, and their pods follow them.
func onlyWhereAllowed(s *scenario) {
	node, err := s.abroad()
	s.must(err, "choosing a node")
	zone := s.zoneOf(node)
	for name, mode := range map[string]storagev1.VolumeBindingMode{
		"at-once": storagev1.VolumeBindingImmediate, "later": storagev1.VolumeBindingWaitForFirstConsumer,
	} {
		class := s.storageClass("allowed-"+name, func(c *storagev1.StorageClass) {
			c.VolumeBindingMode = &mode
			c.AllowedTopologies = []corev1.TopologySelectorTerm{{
				MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: zoneKey, Values: []string{zone}}},
			}}
		})
		claim := s.claim(name, class)
		if mode == storagev1.VolumeBindingImmediate {
			s.bound(claim)
		}
		s.running(name, withClaim(claim))
		if v := s.cloudVolume(claim); v.Zone != zone {
			s.Errorf("claim %s: volume %s is in zone %s, allowed is %s", claim, v.ID, v.Zone, zone)
		}
		pod, err := s.pods().Get(s.Context(), name, metav1.GetOptions{})
		s.must(err, "reading pod %s", name)
		if got := s.zoneOf(pod.Spec.NodeName); got != zone {
			s.Errorf("pod %s is in zone %s, its volume in %s", name, got, zone)
		}
	}
}

// cannotFollow: a pod that may only run in another zone than its volume's stays
// pending, and the scheduler says that the volume is the reason.
func cannotFollow(s *scenario) {
	here, _, err := s.twins()
	s.must(err, "choosing a node")
	there, err := s.abroad()
	s.must(err, "choosing a node")
	claim := s.claim("data", ext4)
	s.running("first", withClaim(claim), onNode(here))
	s.deletePod("first")
	s.pod("stranded", idle, withClaim(claim), onNode(there))
	s.unschedulable("stranded", "PersistentVolume's node affinity")
}

// roomIsKnown: for each zone the driver has told how much room there is, and the
// scheduler says so of a claim that is larger.
func roomIsKnown(s *scenario) {
	zones := map[string]bool{}
	for _, n := range s.cluster.Nodes {
		zones[n.Zone] = true
	}
	s.eventually("the room of each zone to be known", func(ctx context.Context) error {
		list, err := s.kube.StorageV1().CSIStorageCapacities(driverNamespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		missing := maps.Clone(zones) // a zone may be told of twice while another controller takes over
		for _, c := range list.Items {
			if c.StorageClassName == s.class(ext4) && c.NodeTopology != nil && c.Capacity.Value() >= gib {
				delete(missing, c.NodeTopology.MatchLabels[zoneKey])
			}
		}
		if len(missing) != 0 {
			return fmt.Errorf("of class %s %d of %d zones are missing", s.class(ext4), len(missing), len(zones))
		}
		return nil
	})
	s.pod("pending", idle, withClaim(s.claim("data", ext4, ofSize("20Pi")))) // twice the quota
	s.unschedulable("pending", "enough free storage")
}
