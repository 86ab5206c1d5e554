package tests

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// startupTaint is a taint that new nodes join with.
	startupTaint = driverName + "/agent-not-ready"
	// driverLabel chooses the nodes that the driver runs on, in the scenarios that take it
	// off a node and bring it back.
	driverLabel = "e2e.cinder-csi/driver"
	// room is how many volumes a node takes in these scenarios.
	room = 2
)

// joinsUntainted is the failure: the scheduler knows no limit of a node that the driver
// isn't registered on, and takes it for one without a limit.
func joinsUntainted(s *scenario) {
	node := s.newcomer()
	for i := range room + 1 {
		s.waiting(i, node)
		until(s, s.pods(), podName(i), "to be scheduled", func(p *corev1.Pod) error {
			if p.Spec.NodeName == "" {
				return errors.New("it is not")
			}
			return nil
		})
	}
	s.runDriver(node, true)
	s.eventually("the node to get more volumes than it takes", func(ctx context.Context) error {
		n, err := s.volumesOn(ctx, node)
		if err == nil && n <= room {
			err = fmt.Errorf("it has %d", n)
		}
		return err
	})
}

// joinsTainted is the cure: pods wait until the driver is registered and its limit known.
// While nobody removes the taint, they go on waiting.
func joinsTainted(s *scenario) {
	node := s.newcomer()
	s.startupTaint(node)
	for i := range room + 1 {
		s.waiting(i, node)
		s.unschedulable(podName(i), "untolerated taint")
	}
	s.runDriver(node, true)
	for i := range room + 1 {
		s.unschedulable(podName(i), "untolerated taint")
	}

	// A controller that starts finds a node that is ready, and one that is told to at once.
	s.must(s.install(s.Context(), s.onLabelled("--set", "startupTaint="+startupTaint)...), "having the start-up taint removed")
	s.untainted(node)
	s.eventually("as many pods to run as the node has room for", func(ctx context.Context) error {
		ready, full := 0, 0
		for i := range room + 1 {
			p, err := s.pods().Get(ctx, podName(i), metav1.GetOptions{})
			if err != nil {
				return err
			}
			switch {
			case notReady(p) == nil:
				ready++
			case p.Spec.NodeName == "":
				full++
			}
		}
		if ready != room || full != 1 {
			return fmt.Errorf("%d run, %d are not scheduled", ready, full)
		}
		return nil
	})
	for i := range room + 1 {
		s.deletePod(podName(i))
	}

	// It joins again while the controller runs.
	s.runDriver(node, false)
	s.startupTaint(node)
	s.waiting(0, node)
	s.unschedulable(podName(0), "untolerated taint")
	s.runDriver(node, true)
	s.untainted(node)
	s.ready(podName(0))
}

func podName(i int) string { return fmt.Sprintf("pod-%d", i) }

// waiting makes a pod with a volume for a node.
func (s *scenario) waiting(i int, node string) {
	s.Helper()
	s.pod(podName(i), idle, withClaim(fmt.Sprintf("data-%d", i)), onNode(node))
}

// newcomer makes volumes that are bound to the zone of a node, and makes the node one that
// takes few volumes and that the driver doesn't run on yet.
func (s *scenario) newcomer() string {
	s.Helper()
	node, err := s.abroad()
	s.must(err, "choosing a node")
	for i := range room + 1 {
		s.claim(fmt.Sprintf("data-%d", i), ext4)
		s.waiting(i, node)
		s.ready(podName(i))
		s.deletePod(podName(i))
	}
	s.chooseNodes()
	s.must(s.install(s.Context(), s.onLabelled()...), "limiting the nodes to %d volumes", room)
	s.announces(node, room)
	s.runDriver(node, false)
	return node
}

// onLabelled are the arguments for Helm that have the driver run on labelled nodes only.
func (s *scenario) onLabelled(args ...string) []string {
	return append([]string{
		"--set", "node.nodeSelector." + escaped(driverLabel) + "=yes",
		"--set", fmt.Sprintf("node.config.BlockStorage.node-volume-attach-limit=%d", room),
	}, args...)
}

// escaped is the key of a label as Helm's --set takes it.
func escaped(key string) (set string) {
	for _, r := range key {
		if r == '.' {
			set += `\`
		}
		set += string(r)
	}
	return set
}

// chooseNodes labels all nodes, so that the driver runs everywhere, and has everything as
// it was in the end.
func (s *scenario) chooseNodes() {
	s.Helper()
	all := func(ctx context.Context, on bool) (err error) {
		for _, n := range s.cluster.Nodes {
			err = errors.Join(err, s.labelNode(ctx, n.Name, on))
		}
		return err
	}
	s.must(all(s.Context(), true), "labelling the nodes")
	s.afterwards("having the driver run on all nodes", func(ctx context.Context) error {
		return errors.Join(all(ctx, true), s.install(ctx), all(ctx, false))
	})
}

func (s *scenario) labelNode(ctx context.Context, node string, on bool) error {
	value := "null"
	if on {
		value = `"yes"`
	}
	patch := fmt.Sprintf(`{"metadata": {"labels": {%q: %s}}}`, driverLabel, value)
	_, err := s.kube.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// runDriver has the driver run on a node and be registered there, or not.
func (s *scenario) runDriver(node string, on bool) {
	s.Helper()
	s.must(s.labelNode(s.Context(), node, on), "labelling %s", node)
	if on {
		s.announces(node, room)
		s.must(s.driverReady(s.Context()), "waiting for the driver")
		return
	}
	s.driverGone(node)
}

// driverGone waits until the driver isn't on a node any more.
func (s *scenario) driverGone(node string) {
	s.Helper()
	s.announces(node, -1)
	s.eventually("the driver's pod to leave "+node, func(ctx context.Context) error {
		list, err := s.kube.CoreV1().Pods(driverNamespace).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node, LabelSelector: "app.kubernetes.io/component=node"})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%s is there", list.Items[0].Name)
		}
		return err
	})
}

// announces waits until a node announces room for so many volumes; -1 for none.
func (s *scenario) announces(node string, limit int32) {
	s.Helper()
	until(s, s.kube.StorageV1().CSINodes(), node, fmt.Sprintf("to announce room for %d volumes", limit), func(n *storagev1.CSINode) error {
		if count := announced(n); count != limit {
			return fmt.Errorf("it announces room for %d", count)
		}
		return nil
	})
}

// startupTaint gives a node the taint that new nodes join with.
func (s *scenario) startupTaint(node string) {
	s.Helper()
	s.afterwards("taking the taint off "+node, func(ctx context.Context) error {
		n, err := s.kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil || !hasTaint(n, startupTaint) {
			return err
		}
		_, err = s.kubectl(ctx, nil, "taint", "node", node, startupTaint+"-")
		return err
	})
	_, err := s.kubectl(s.Context(), nil, "taint", "node", node, startupTaint+"=:NoSchedule")
	s.must(err, "tainting %s", node)
}

func hasTaint(n *corev1.Node, key string) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
}

// untainted waits until a node has lost the taint.
func (s *scenario) untainted(node string) {
	s.Helper()
	until(s, s.kube.CoreV1().Nodes(), node, "to lose its start-up taint", func(n *corev1.Node) error {
		if hasTaint(n, startupTaint) {
			return fmt.Errorf("it has %v", n.Spec.Taints)
		}
		return nil
	})
}

// volumesOn is how many volumes of the driver are, or are to be, attached to a node.
func (s *scenario) volumesOn(ctx context.Context, node string) (n int, err error) {
	list, err := s.kube.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	for _, a := range list.Items {
		if a.Spec.NodeName == node && a.Spec.Attacher == driverName {
			n++
		}
	}
	return n, nil
}
