package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// isDrained: a node is drained, and the pod goes on elsewhere with its data.
func isDrained(s *scenario) {
	zone := s.twinZone()
	s.statefulSet("set", 1, xfs, writing, inZone(zone))
	w := s.watchWriter("set-0")
	old := s.ready(w.pod)
	node := old.Spec.NodeName
	blob, was := s.fill(w.pod, dataDir+"/blob", 16), w.advances()

	s.afterwards("taking node "+node+" back", func(ctx context.Context) error {
		_, err := s.kubectl(ctx, nil, "uncordon", node)
		return err
	})
	out, err := s.kubectl(s.Context(), nil, "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=2m")
	s.must(err, "draining %s", node)
	s.Logf("$ kubectl drain %s: %s", node, out)
	s.replaced(old)
	s.goesOn(w.pod, was, blob, node)
	s.attachedTo(claimOf(w.pod), s.ready(w.pod).Spec.NodeName)
}

// isGone: a node loses its power. Told so, Kubernetes moves the pod, and the
// volume follows with everything that was written. Later the node comes back,
// and takes the pod again.
func isGone(s *scenario) {
	zone := s.twinZone()
	s.statefulSet("set", 1, ext4, writing, inZone(zone))
	w := s.watchWriter("set-0")
	old := s.ready(w.pod)
	node := old.Spec.NodeName
	blob, was := s.fill(w.pod, dataDir+"/blob", 16), w.advances()

	s.afterwards("bringing node "+node+" back", func(ctx context.Context) error { return s.bringBack(ctx, node) })
	s.must(s.cluster.PowerOff(s.Context(), node), "taking the power from %s", node)
	began := time.Now()
	until(s, s.kube.CoreV1().Nodes(), node, "to be missed", func(n *corev1.Node) error {
		if nodeReady(n) == nil {
			return fmt.Errorf("it is taken for ready")
		}
		return nil
	})
	missed := time.Since(began).Round(time.Second)
	s.eventually("node "+node+" to be tainted as out of service", func(ctx context.Context) error { return s.taint(ctx, node, true) })
	s.replaced(old)
	s.Logf("node %s was missed after %v; the pod ran elsewhere after %v", node, missed, time.Since(began).Round(time.Second))
	s.goesOn(w.pod, was, blob, node)

	s.must(s.bringBack(s.Context(), node), "bringing %s back", node)
	s.moveSet("set", node)
	if now := s.ready(w.pod).Spec.NodeName; now != node {
		s.Errorf("pod %s runs on %s, not on %s", w.pod, now, node)
	}
	s.goesOn(w.pod, was, blob, "")
	s.attachedTo(claimOf(w.pod), node)
}

// goesOn proves that a pod runs on another node than before, with all that it
// had written there, and goes on writing.
func (s *scenario) goesOn(pod string, was int, blob, before string) {
	s.Helper()
	w := s.watchWriter(pod)
	if now := s.ready(pod).Spec.NodeName; now == before {
		s.Errorf("pod %s is still on %s", pod, before)
	}
	s.same(pod, dataDir+"/blob", 16, blob)
	if is := w.advances(); is <= was {
		s.Errorf("pod %s has %d records, there were %d", pod, is, was)
	}
	w.neverStopped()
}

func inZone(zone string) podOption {
	return func(spec *corev1.PodSpec) { spec.NodeSelector = map[string]string{zoneKey: zone} }
}

// twinZone is the zone with two nodes.
func (s *scenario) twinZone() string {
	s.Helper()
	node, _, err := s.twins()
	s.must(err, "choosing a zone")
	return s.zoneOf(node)
}

// nodeReady tells why a node isn't ready.
func nodeReady(n *corev1.Node) error {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("it is not ready: %s", c.Message)
		}
	}
	return fmt.Errorf("it says nothing about being ready")
}

// taint tells Kubernetes that a node is out of service, or is not. It fails when
// somebody else changes the node at the same time: then try again.
func (s *scenario) taint(ctx context.Context, node string, out bool) error {
	n, err := s.kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	taints := slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
	if out {
		taints = append(taints, corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute})
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": n.ResourceVersion}, "spec": map[string]any{"taints": taints}})
	if err != nil {
		return err
	}
	_, err = s.kube.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// bringBack gives a node its power, waits until it is ready and the driver on
// it too, and takes its taint away. A node that is there already is left so:
// the cluster knows that, and Kubernetes takes a node that is off for ready at first.
func (s *scenario) bringBack(ctx context.Context, node string) error {
	if err := s.cluster.PowerOn(ctx, node); err != nil {
		return err
	}
	if _, err := await(ctx, s.kube.CoreV1().Nodes(), node, func(n *corev1.Node) error {
		if n == nil {
			return errAbsent
		}
		return nodeReady(n)
	}); err != nil {
		return err
	}
	if err := repeat(ctx, func(ctx context.Context) error { return s.taint(ctx, node, false) }); err != nil {
		return err
	}
	return s.driverReady(ctx)
}

// install installs or upgrades the driver, with further arguments for Helm, and
// waits until it runs. Helm is content while a node's pod is missing, and while the
// last pod of the release before is still there.
func (s *scenario) install(ctx context.Context, args ...string) error {
	if err := s.cluster.Install(ctx, args...); err != nil {
		return err
	}
	return s.driverReady(ctx)
}

// driverReady waits until the driver runs on every node and its controllers run,
// all of them of the present release, and no other.
func (s *scenario) driverReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	_, err := await(ctx, s.kube.AppsV1().DaemonSets(driverNamespace), nodeName, func(d *appsv1.DaemonSet) error {
		if d == nil {
			return errAbsent
		}
		is, want := d.Status, int32(len(s.cluster.Nodes))
		if is.ObservedGeneration != d.Generation || is.UpdatedNumberScheduled != want || is.NumberReady != want {
			return fmt.Errorf("%d pods of %s are of the present release and %d are ready, want %d", is.UpdatedNumberScheduled, nodeName, is.NumberReady, want)
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = await(ctx, s.kube.AppsV1().Deployments(driverNamespace), controllerName, func(d *appsv1.Deployment) error {
		if d == nil {
			return errAbsent
		}
		is, want := d.Status, *d.Spec.Replicas
		if is.ObservedGeneration != d.Generation || is.Replicas != want || is.UpdatedReplicas != want || is.ReadyReplicas != want {
			return fmt.Errorf("of %d pods of %s %d are of the present release and %d are ready, want %d", is.Replicas, controllerName, is.UpdatedReplicas, is.ReadyReplicas, want)
		}
		return nil
	})
	return err
}

// moveSet has the one pod of a StatefulSet run on a node.
func (s *scenario) moveSet(name, node string) {
	s.Helper()
	old := s.ready(name + "-0")
	patch := fmt.Sprintf(`{"spec": {"template": {"spec": {"nodeSelector": {%q: %q}}}}}`, hostKey, node)
	_, err := s.kube.AppsV1().StatefulSets(s.namespace).Patch(s.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	s.must(err, "moving StatefulSet %s to %s", name, node)
	s.replaced(old)
}
