package tests

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statefulSet makes a StatefulSet whose pods run a script, each with a volume of
// its own, all started at once, and waits until they run.
func (s *scenario) statefulSet(name string, replicas int32, class, script string, options ...podOption) {
	s.Helper()
	labels := map[string]string{"app": name}
	spec := podSpec(script, options...)
	mountData(&spec)
	_, err := s.kube.AppsV1().StatefulSets(s.namespace).Create(s.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: s.claimSpec(class),
			}},
		},
	}, metav1.CreateOptions{})
	s.must(err, "making StatefulSet %s", name)
	for i := range replicas {
		s.ready(fmt.Sprintf("%s-%d", name, i))
	}
}

// claimOf returns the name of the claim of a pod of a StatefulSet.
func claimOf(pod string) string { return "data-" + pod }

// replaced waits until another pod of the same name runs, and returns it.
func (s *scenario) replaced(old *corev1.Pod) *corev1.Pod {
	s.Helper()
	return until(s, s.pods(), old.Name, "to run in place of an earlier one", func(pod *corev1.Pod) error {
		if pod.UID == old.UID {
			return fmt.Errorf("it is still the same one, on %s, deleted at %v", pod.Spec.NodeName, pod.DeletionTimestamp)
		}
		return notReady(pod)
	})
}
