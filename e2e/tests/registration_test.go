package tests

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cinder-csi/cinder-csi/internal/registration"
)

// registrationSocket is where the node plugin waits for its kubelet.
const registrationSocket = "/var/lib/kubelet/plugins_registry/" + driverName + "-reg.sock"

// survivesKubelet: a kubelet that starts again finds the driver, though nobody
// tells it; pods that use volumes don't notice, and new ones get theirs.
func survivesKubelet(s *scenario) {
	node, _, err := s.twins()
	s.must(err, "choosing a node")
	w := s.writer("writer", withClaim(s.claim("written", xfs)), onNode(node))
	plugin := s.pluginOn(node)
	s.afterwards("starting the kubelet of "+node, func(ctx context.Context) error { return s.cluster.StartKubelet(ctx, node) })

	began := time.Now()
	s.must(s.cluster.StopKubelet(s.Context(), node), "stopping the kubelet of %s", node)
	s.must(s.cluster.StartKubelet(s.Context(), node), "starting the kubelet of %s", node)
	s.says(plugin, began, registration.Registered)
	s.Logf("%s was registered again %v after its kubelet was stopped", plugin, time.Since(began).Round(100*time.Millisecond))
	s.registeredOn(node)
	w.neverStopped()
	s.fill(s.running("pod", withClaim(s.claim("data", ext4)), onNode(node)), dataDir+"/blob", 4)
}

// survivesCleaning: somebody removes the socket by which the driver is
// registered, and the kubelet forgets the driver. It is there again soon.
func survivesCleaning(s *scenario) {
	node, _, err := s.twins()
	s.must(err, "choosing a node")
	w := s.writer("writer", withClaim(s.claim("written", xfs)), onNode(node))
	plugin := s.pluginOn(node)

	began := time.Now()
	_, err = s.cluster.Exec(s.Context(), node, "rm", registrationSocket)
	s.must(err, "removing %s on %s", registrationSocket, node)
	s.says(plugin, began, registration.SocketLost)
	s.says(plugin, began, registration.Registered)
	s.Logf("%s was registered again %v after its socket was removed", plugin, time.Since(began).Round(100*time.Millisecond))
	s.registeredOn(node)
	w.neverStopped()
	s.fill(s.running("pod", withClaim(s.claim("data", ext4)), onNode(node)), dataDir+"/blob", 4)
	if now := s.pluginOn(node); now != plugin {
		s.Errorf("pod %s took the place of %s: it should have helped itself", now, plugin)
	}
}

// survivesBoth: the socket goes while the kubelet is down, as when a node is
// cleaned; the kubelet that starts then waits for the driver to make another.
func survivesBoth(s *scenario) {
	node, _, err := s.twins()
	s.must(err, "choosing a node")
	plugin := s.pluginOn(node)
	s.afterwards("starting the kubelet of "+node, func(ctx context.Context) error { return s.cluster.StartKubelet(ctx, node) })

	began := time.Now()
	s.must(s.cluster.StopKubelet(s.Context(), node), "stopping the kubelet of %s", node)
	_, err = s.cluster.Exec(s.Context(), node, "rm", registrationSocket)
	s.must(err, "removing %s on %s", registrationSocket, node)
	s.must(s.cluster.StartKubelet(s.Context(), node), "starting the kubelet of %s", node)
	s.says(plugin, began, registration.SocketLost)
	s.says(plugin, began, registration.Registered)
	s.registeredOn(node)
	s.fill(s.running("pod", withClaim(s.claim("data", ext4)), onNode(node)), dataDir+"/blob", 4)
}

// isRegisteredByAnother: the chart's other way, node.selfRegistration: false. The
// side containers are stand-ins (e2e/images/sidecar), since the real ones' modules
// aren't for download.
func isRegisteredByAnother(s *scenario) {
	node, _, err := s.twins()
	s.must(err, "choosing a node")
	w := s.writer("writer", withClaim(s.claim("written", xfs)), onNode(node))
	s.afterwards("having the driver register itself again", func(ctx context.Context) error { return s.install(ctx) })

	args := []string{"--set", "node.selfRegistration=false"}
	for _, sidecar := range []string{"nodeDriverRegistrar", "livenessProbe"} {
		image := "sidecars." + sidecar + ".image"
		args = append(args, "--set", image+".repository=localhost/cinder-csi-sidecar,"+image+".tag=e2e")
	}
	s.must(s.install(s.Context(), args...), "installing the driver with side containers")
	pod, err := s.kube.CoreV1().Pods(driverNamespace).Get(s.Context(), s.pluginOn(node), metav1.GetOptions{})
	s.must(err, "reading the driver's pod on %s", node)
	for _, c := range pod.Status.ContainerStatuses {
		if !c.Ready || c.RestartCount > 0 {
			s.Errorf("container %s of %s: ready %v, %d restarts", c.Name, pod.Name, c.Ready, c.RestartCount)
		}
	}
	if n := len(pod.Status.ContainerStatuses); n != 3 {
		s.Errorf("pod %s has %d containers", pod.Name, n)
	}
	for _, n := range s.cluster.Nodes {
		s.registeredOn(n.Name)
	}
	w.neverStopped()
	s.fill(s.running("pod", withClaim(s.claim("data", ext4)), onNode(node)), dataDir+"/blob", 4)
}

// pluginOn returns the name of the node plugin's pod on a node.
func (s *scenario) pluginOn(node string) string {
	s.Helper()
	list, err := s.kube.CoreV1().Pods(driverNamespace).List(s.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	s.must(err, "listing the pods on %s", node)
	for _, p := range list.Items {
		if strings.HasPrefix(p.Name, nodeName+"-") && p.DeletionTimestamp == nil {
			return p.Name
		}
	}
	s.Fatalf("the driver doesn't run on %s", node)
	return ""
}

// says waits until the node plugin has logged something since a time.
func (s *scenario) says(pod string, since time.Time, message string) {
	s.Helper()
	from := metav1.NewTime(since.Add(-time.Second)) // the API takes whole seconds
	s.eventually(fmt.Sprintf("pod %s to say %q", pod, message), func(ctx context.Context) error {
		log, err := s.kube.CoreV1().Pods(driverNamespace).GetLogs(pod, &corev1.PodLogOptions{SinceTime: &from, Timestamps: true}).DoRaw(ctx)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(log)) {
			stamp, text, _ := strings.Cut(line, " ")
			at, err := time.Parse(time.RFC3339Nano, stamp)
			if err == nil && at.After(since) && strings.Contains(text, message) {
				return nil
			}
		}
		return fmt.Errorf("it has said nothing like it since %v", since)
	})
}

// registeredOn waits until Kubernetes has the driver on a node, and its plugin
// takes itself for registered.
func (s *scenario) registeredOn(node string) {
	s.Helper()
	until(s, s.kube.StorageV1().CSINodes(), node, "to have the driver", func(n *storagev1.CSINode) error {
		for _, d := range n.Spec.Drivers {
			if d.Name == driverName {
				return nil
			}
		}
		return fmt.Errorf("it has %v", n.Spec.Drivers)
	})
	s.must(s.driverReady(s.Context()), "waiting for the driver")
}
