package tests

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// slowToEnd is a pod that takes longer to end than the driver: a database that flushes.
const slowToEnd = `trap 'sleep 12; exit 0' TERM; while :; do sleep 1; done`

func withGrace(seconds int64) podOption {
	return func(spec *corev1.PodSpec) { spec.TerminationGracePeriodSeconds = &seconds }
}

// isEmptiedTooFast is the failure: the driver ends with its node's other pods, and before
// the slowest of them. Nobody can unmount that one's volume then. Had the node gone, the
// volume would be detached after six minutes.
func isEmptiedTooFast(s *scenario) {
	old := s.isEmptied(false)
	node := old.Spec.NodeName
	s.driverGone(node)
	until(s, s.pods(), old.Name, "to have ended and to be there still", func(p *corev1.Pod) error {
		if p.UID != old.UID {
			return fmt.Errorf("it was replaced")
		}
		if p.Status.ContainerStatuses[0].State.Terminated == nil {
			return fmt.Errorf("its container is %+v", p.Status.ContainerStatuses[0].State)
		}
		return nil
	})
	// Nothing is left that could change this: it is no question of time.
	n, err := s.kube.CoreV1().Nodes().Get(s.Context(), node, metav1.GetOptions{})
	s.must(err, "reading node %s", node)
	if !inUse(n) {
		s.Errorf("node %s has let its volume go without the driver: %v", node, n.Status.VolumesInUse)
	}
	if count, err := s.volumesOn(s.Context(), node); err != nil || count != 1 {
		s.Errorf("node %s has %d volumes: %v", node, count, err)
	}
	s.runDriver(node, true)
	s.replaced(old)
}

// isEmptiedInOrder is the cure: the driver's hook waits for the volume.
func isEmptiedInOrder(s *scenario) {
	old := s.isEmptied(true)
	began := time.Now()
	now := s.replaced(old)
	s.Logf("the pod runs on %s %v after it was told to end, 12 s of which it took itself", now.Spec.NodeName, time.Since(began).Round(time.Second))
	if now.Spec.NodeName == old.Spec.NodeName {
		s.Errorf("the pod is still on %s", old.Spec.NodeName)
	}
	s.attachedTo(claimOf(old.Name), now.Spec.NodeName)
	s.driverGone(old.Spec.NodeName)
	events, err := s.kube.CoreV1().Events(driverNamespace).List(s.Context(), metav1.ListOptions{FieldSelector: "reason=FailedPreStopHook"})
	s.must(err, "listing events")
	for _, e := range events.Items {
		if e.LastTimestamp.After(s.began) {
			s.Errorf("%s: %s", e.InvolvedObject.Name, e.Message)
		}
	}
}

// isEmptied cordons the node of a pod and has the pod and the driver leave it at the same
// time, as a shutdown does or whoever evicts all pods of a node. It returns the pod.
func (s *scenario) isEmptied(hook bool) *corev1.Pod {
	s.Helper()
	s.chooseNodes()
	args := s.onLabelled("--set", fmt.Sprintf("node.preStop.enabled=%v,node.terminationGracePeriodSeconds=120", hook))
	s.must(s.install(s.Context(), args...), "installing the driver")
	if hook {
		began := time.Now()
		s.must(s.install(s.Context(), append(args, "--set", "node.podAnnotations.again=yes")...), "updating the driver")
		s.Logf("with the hook, the driver was replaced on all nodes within %v", time.Since(began).Round(time.Second))
	}

	s.statefulSet("set", 1, ext4, slowToEnd, inZone(s.twinZone()), withGrace(60))
	old := s.ready("set-0")
	node := old.Spec.NodeName
	until(s, s.kube.CoreV1().Nodes(), node, "to say that its volume is in use", func(n *corev1.Node) error {
		if !inUse(n) {
			return fmt.Errorf("it says %v", n.Status.VolumesInUse)
		}
		return nil
	})
	s.afterwards("taking node "+node+" back", func(ctx context.Context) error {
		_, err := s.kubectl(ctx, nil, "uncordon", node)
		return err
	})
	_, err := s.kubectl(s.Context(), nil, "cordon", node)
	s.must(err, "cordoning %s", node)
	s.must(s.pods().Delete(s.Context(), old.Name, metav1.DeleteOptions{}), "deleting pod %s", old.Name)
	s.must(s.labelNode(s.Context(), node, false), "taking the driver off %s", node)
	return old
}

// inUse tells whether the kubelet says that it has a volume of the driver.
func inUse(n *corev1.Node) bool {
	for _, name := range n.Status.VolumesInUse {
		if strings.HasPrefix(string(name), "kubernetes.io/csi/"+driverName+"^") {
			return true
		}
	}
	return false
}
