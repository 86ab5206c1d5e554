package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/remotecommand"
)

// image holds a shell and its small tools.
const image = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1"

// Where a pod finds its volume, as a directory and as a device.
const (
	dataDir    = "/data"
	dataDevice = "/dev/volume"
)

// idle is what a pod runs that is only there to be looked into.
const idle = "while :; do sleep 3600; done"

// podOption changes a pod.
type podOption func(*corev1.PodSpec)

// onNode lets the pod be scheduled to one node only.
func onNode(name string) podOption {
	return func(spec *corev1.PodSpec) { spec.NodeSelector = map[string]string{hostKey: name} }
}

// withClaim mounts a claim at dataDir.
func withClaim(claim string) podOption {
	return func(spec *corev1.PodSpec) {
		spec.Volumes = append(spec.Volumes, claimVolume("data", claim))
		mountData(spec)
	}
}

// withBlock gives the pod the device of a claim.
func withBlock(claim string) podOption {
	return func(spec *corev1.PodSpec) {
		spec.Volumes = append(spec.Volumes, claimVolume("data", claim))
		spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "data", DevicePath: dataDevice}}
	}
}

func mountData(spec *corev1.PodSpec) {
	spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: dataDir})
}

func claimVolume(name, claim string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}}
}

// podSpec returns the specification of a pod that runs a shell script.
func podSpec(script string, options ...podOption) corev1.PodSpec {
	soon := int64(1) // nothing here has anything to say on its way out; 0 would forget the pod before it has ended
	spec := corev1.PodSpec{
		TerminationGracePeriodSeconds: &soon,
		Containers: []corev1.Container{{
			Name: "main", Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"/bin/sh", "-c", script},
		}},
	}
	for _, option := range options {
		option(&spec)
	}
	return spec
}

func (s *scenario) pods() corev1client.PodInterface { return s.kube.CoreV1().Pods(s.namespace) }

// pod makes a pod and returns its name.
func (s *scenario) pod(name, script string, options ...podOption) string {
	s.Helper()
	_, err := s.pods().Create(s.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: podSpec(script, options...),
	}, metav1.CreateOptions{})
	s.must(err, "making pod %s", name)
	return name
}

// running makes a pod that does nothing and waits until it runs.
func (s *scenario) running(name string, options ...podOption) string {
	s.Helper()
	s.pod(name, idle, options...)
	s.ready(name)
	return name
}

// ready waits until a pod runs.
func (s *scenario) ready(name string) *corev1.Pod {
	s.Helper()
	return until(s, s.pods(), name, "to run", notReady)
}

// notReady tells why a pod doesn't run yet.
func notReady(pod *corev1.Pod) error {
	var why []string
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil {
			return nil
		}
		if c.Status != corev1.ConditionTrue && c.Message != "" {
			why = append(why, fmt.Sprintf("%s: %s", c.Type, c.Message))
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			why = append(why, fmt.Sprintf("container %s: %s %s", c.Name, w.Reason, w.Message))
		}
	}
	return fmt.Errorf("it is %s on node %q; %s", pod.Status.Phase, pod.Spec.NodeName, strings.Join(why, "; "))
}

// unschedulable waits until the scheduler says that it has no node for a pod,
// for a reason in which all the words occur.
func (s *scenario) unschedulable(name string, words ...string) {
	s.Helper()
	pod := until(s, s.pods(), name, fmt.Sprintf("to be unschedulable for %q", words), func(pod *corev1.Pod) error {
		if pod.Spec.NodeName != "" {
			return fmt.Errorf("it is scheduled to %s", pod.Spec.NodeName)
		}
		for _, c := range pod.Status.Conditions {
			if c.Type != corev1.PodScheduled || c.Reason != corev1.PodReasonUnschedulable {
				continue
			}
			for _, word := range words {
				if !strings.Contains(c.Message, word) {
					return fmt.Errorf("the scheduler says %q", c.Message)
				}
			}
			return nil
		}
		return errors.New("the scheduler says nothing")
	})
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			s.Logf("the scheduler on %s: %s", name, c.Message)
		}
	}
}

// deletePod deletes a pod and waits until it is gone.
func (s *scenario) deletePod(name string) {
	s.Helper()
	s.must(s.pods().Delete(s.Context(), name, metav1.DeleteOptions{}), "deleting pod %s", name)
	untilGone[corev1.Pod](s, s.pods(), name)
}

// run runs a shell script in a pod and returns what it prints.
func (s *scenario) run(pod, script string) string {
	s.Helper()
	out, err := s.try(s.Context(), pod, script)
	s.must(err, "running %q in pod %s", script, pod)
	return out
}

// try runs a shell script in a pod.
func (s *scenario) try(ctx context.Context, pod, script string) (string, error) {
	request := s.kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(s.namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: "main", Command: []string{"/bin/sh", "-c", script}, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	executor, err := remotecommand.NewSPDYExecutor(s.config, "POST", request.URL())
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}); err != nil {
		return "", fmt.Errorf("%w, stdout %q, stderr %q", err, stdout.String(), stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}
