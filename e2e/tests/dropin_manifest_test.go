package tests

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cinder-csi/cinder-csi/e2e/cluster"
)

// cloudConfigFlag is how a container is told of its cloud.conf.
const cloudConfigFlag = "--cloud-config=$(CLOUD_CONFIG)"

// nodeLimit is what the cloud.conf says that a node takes of volumes, by which a
// node is known that reads it.
const nodeLimit = 2

// referenceContainer is a container of the plugin as the plain manifests of the
// reference driver have it. Their image has no entry point: the arguments begin
// with the program.
type referenceContainer struct {
	name string
	// controller: it has the controller's image, otherwise the node's.
	controller bool
	args       []string
	env        []corev1.EnvVar
}

// referenceContainers are those of the current manifests, a node's without a
// cloud.conf, which it can do without, and those of the first manifests, whose
// driver was told the node's name.
func referenceContainers() []referenceContainer {
	value := func(name, value string) corev1.EnvVar { return corev1.EnvVar{Name: name, Value: value} }
	endpoint := value("CSI_ENDPOINT", "unix://csi/csi.sock")
	config := value("CLOUD_CONFIG", "/etc/config/cloud.conf")
	clusterName := value("CLUSTER_NAME", "kubernetes")
	node := corev1.EnvVar{Name: "NODE_ID", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}
	const program = "/bin/cinder-csi-plugin"
	return []referenceContainer{
		{"controller", true, []string{
			program, "--endpoint=$(CSI_ENDPOINT)", cloudConfigFlag, "--cluster=$(CLUSTER_NAME)", "--pvc-annotations", "--v=1",
		}, []corev1.EnvVar{endpoint, config, clusterName}},
		{"node", false, []string{
			program, "--endpoint=$(CSI_ENDPOINT)", "--provide-controller-service=false", cloudConfigFlag, "--v=1",
		}, []corev1.EnvVar{endpoint, config}},
		{"bare-node", false, []string{
			program, "--endpoint=$(CSI_ENDPOINT)", "--provide-controller-service=false", "--v=1",
		}, []corev1.EnvVar{endpoint}},
		{"old-controller", true, []string{
			program, "--nodeid=$(NODE_ID)", "--endpoint=$(CSI_ENDPOINT)", cloudConfigFlag, "--cluster=$(CLUSTER_NAME)",
		}, []corev1.EnvVar{node, endpoint, config, clusterName}},
		{"old-node", false, []string{
			program, "--nodeid=$(NODE_ID)", "--endpoint=$(CSI_ENDPOINT)", cloudConfigFlag,
		}, []corev1.EnvVar{node, endpoint, config}},
	}
}

// startsWithReferenceArguments: each container comes up with the chart's image and
// the reference's arguments, and answers on its socket as its role does.
func startsWithReferenceArguments(s *scenario) {
	s.copyCloudConf()
	n := s.cluster.Nodes[0]
	for _, c := range referenceContainers() {
		s.referencePod(n.Name, c)
	}
	for _, c := range referenceContainers() {
		conn := s.dialPod(s.ready(c.name))
		info := answer(s, c.name+" to say who it is", func(ctx context.Context) (*csi.GetPluginInfoResponse, error) {
			return csi.NewIdentityClient(conn).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
		})
		if info.GetName() != driverName {
			s.Errorf("%s says that it is %s", c.name, info.GetName())
		}
		if c.controller {
			s.controls(conn, c.name)
		} else {
			s.isNode(conn, c, n)
		}
		for _, status := range s.ready(c.name).Status.ContainerStatuses {
			if status.RestartCount != 0 {
				s.Errorf("%s was started %d times again", c.name, status.RestartCount)
			}
		}
	}
}

// namesMissingConfig: a node plugin whose cloud.conf isn't there ends at once and
// names it; only without the flag would it do without the file.
func namesMissingConfig(s *scenario) {
	s.copyCloudConf()
	c := referenceContainers()[1]
	const missing = "/etc/config/missing.conf"
	c.env[len(c.env)-1].Value = missing
	s.referencePod(s.cluster.Nodes[0].Name, c)
	until(s, s.pods(), c.name, "to end", func(pod *corev1.Pod) error {
		for _, status := range pod.Status.ContainerStatuses {
			ended := cmp.Or(status.State.Terminated, status.LastTerminationState.Terminated)
			if ended != nil && ended.ExitCode == 1 && strings.Contains(ended.Message, missing+": no such file") {
				s.Logf("it said: %s", ended.Message)
				return nil
			}
		}
		return fmt.Errorf("its containers are %+v", pod.Status.ContainerStatuses)
	})
}

// answer asks a plugin until it answers, as the kubelet and the side containers do.
// Nothing tells when a plugin listens, since the containers have no readiness probe;
// then it connects to the cloud, and may answer Unavailable for as long as that takes.
// Any other error is final.
func answer[A any](s *scenario, wish string, ask func(context.Context) (A, error)) (got A) {
	s.Helper()
	s.eventually(wish, func(ctx context.Context) (err error) {
		if got, err = ask(ctx); err != nil && status.Code(err) != codes.Unavailable {
			s.Fatalf("waiting for %s: %v", wish, err)
		}
		return err
	})
	return got
}

// controls wants a controller to see the cloud.
func (s *scenario) controls(conn *grpc.ClientConn, name string) {
	s.Helper()
	list := answer(s, name+" to list volumes", func(ctx context.Context) (*csi.ListVolumesResponse, error) {
		return csi.NewControllerClient(conn).ListVolumes(ctx, &csi.ListVolumesRequest{MaxEntries: 1})
	})
	s.Logf("%s lists %d volumes", name, len(list.GetEntries()))
}

// isNode wants a node plugin to know which server it is on, and what its cloud.conf says.
func (s *scenario) isNode(conn *grpc.ClientConn, c referenceContainer, n cluster.Node) {
	s.Helper()
	info := answer(s, c.name+" to say where it is", func(ctx context.Context) (*csi.NodeGetInfoResponse, error) {
		return csi.NewNodeClient(conn).NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
	})
	if zone := info.GetAccessibleTopology().GetSegments()[zoneKey]; info.GetNodeId() != n.ServerID || zone != n.Zone {
		s.Errorf("%s says that it is on %s in %s; node %s is server %s in %s", c.name, info.GetNodeId(), zone, n.Name, n.ServerID, n.Zone)
	}
	if limit := info.GetMaxVolumesPerNode(); slices.Contains(c.args, cloudConfigFlag) != (limit == nodeLimit) {
		s.Errorf("%s takes %d volumes; a cloud.conf would tell it %d", c.name, limit, nodeLimit)
	}
}

// copyCloudConf brings the Secret of the driver into the namespace, with a limit
// for the nodes.
func (s *scenario) copyCloudConf() {
	s.Helper()
	secret, err := s.kube.CoreV1().Secrets(driverNamespace).Get(s.Context(), "cloud-config", metav1.GetOptions{})
	s.must(err, "reading the driver's Secret")
	secret.Data["cloud.conf"] = fmt.Appendf(secret.Data["cloud.conf"], "\n[BlockStorage]\nnode-volume-attach-limit = %d\n", nodeLimit)
	_, err = s.kube.CoreV1().Secrets(s.namespace).Create(s.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "cloud-config"}, Data: secret.Data,
	}, metav1.CreateOptions{})
	s.must(err, "copying the driver's Secret")
}

// pluginImage returns the image that the chart runs for a role.
func (s *scenario) pluginImage(controller bool) string {
	s.Helper()
	var containers []corev1.Container
	if controller {
		d, err := s.kube.AppsV1().Deployments(driverNamespace).Get(s.Context(), controllerName, metav1.GetOptions{})
		s.must(err, "reading Deployment %s", controllerName)
		containers = d.Spec.Template.Spec.Containers
	} else {
		d, err := s.kube.AppsV1().DaemonSets(driverNamespace).Get(s.Context(), nodeName, metav1.GetOptions{})
		s.must(err, "reading DaemonSet %s", nodeName)
		containers = d.Spec.Template.Spec.Containers
	}
	for _, c := range containers {
		if c.Name == "cinder-csi-plugin" {
			return c.Image
		}
	}
	s.Fatalf("the chart runs no container cinder-csi-plugin: %v", containers)
	return ""
}

// referencePod runs one of the containers, with the volumes that the manifests
// give it; the socket's is the pod's own, so that the kubelet doesn't meet two drivers.
func (s *scenario) referencePod(node string, c referenceContainer) {
	s.Helper()
	privileged, soon := !c.controller, int64(1)
	volume := func(name string, source corev1.VolumeSource) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: source}
	}
	spec := corev1.PodSpec{
		NodeSelector: map[string]string{hostKey: node}, TerminationGracePeriodSeconds: &soon, HostNetwork: !c.controller,
		Containers: []corev1.Container{{
			Name: "main", Image: s.pluginImage(c.controller), ImagePullPolicy: corev1.PullIfNotPresent, Args: c.args, Env: c.env,
			SecurityContext:          &corev1.SecurityContext{Privileged: &privileged},
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			VolumeMounts: []corev1.VolumeMount{
				{Name: "csi", MountPath: "/csi"}, {Name: "config", MountPath: "/etc/config", ReadOnly: true},
			},
		}},
		Volumes: []corev1.Volume{
			volume("csi", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}),
			volume("config", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "cloud-config"}}),
		},
	}
	if !c.controller {
		both, toContainer := corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer
		spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts,
			corev1.VolumeMount{Name: "kubelet", MountPath: "/var/lib/kubelet", MountPropagation: &both},
			corev1.VolumeMount{Name: "dev", MountPath: "/dev", MountPropagation: &toContainer})
		spec.Volumes = append(spec.Volumes,
			volume("kubelet", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/kubelet"}}),
			volume("dev", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/dev"}}))
	}
	_, err := s.pods().Create(s.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: c.name}, Spec: spec}, metav1.CreateOptions{})
	s.must(err, "making pod %s", c.name)
}

// dialPod connects to the socket in a pod's volume "csi", by way of its node.
func (s *scenario) dialPod(pod *corev1.Pod) *grpc.ClientConn {
	s.Helper()
	socket := fmt.Sprintf("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~empty-dir/csi/csi.sock", pod.UID)
	dial := func(context.Context, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			var complaint bytes.Buffer
			// The scenario's context: gRPC's own ends with the dialling.
			err := s.cluster.ExecWith(s.Context(), there, there, &complaint, pod.Spec.NodeName, "socat", "-", "UNIX-CONNECT:"+socket)
			if err != nil && s.Context().Err() == nil {
				s.Logf("the way to %s on %s: %v: %s", socket, pod.Spec.NodeName, err, complaint.String())
			}
			_ = there.Close()
		}()
		return here, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+pod.Name, grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()),
		// By itself gRPC would pause for up to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 1, MaxDelay: time.Second}, MinConnectTimeout: 20 * time.Second}))
	s.must(err, "connecting to pod %s", pod.Name)
	s.Cleanup(func() { _ = conn.Close() })
	return conn
}
