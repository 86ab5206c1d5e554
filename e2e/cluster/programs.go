package cluster

import "strings"

// kubernetesVersion is what e2e/tools/kube pins; programs say it of themselves
// only if they are told.
const kubernetesVersion = "v1.36.3"

// kubeFlags stamp Kubernetes' version into its programs.
func kubeFlags() string {
	const version = "k8s.io/component-base/version."
	major, minor, _ := strings.Cut(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	return "-s -w" +
		" -X " + version + "gitVersion=" + kubernetesVersion + " -X " + version + "gitMajor=" + major +
		" -X " + version + "gitMinor=" + minor + " -X " + version + "gitTreeState=clean" +
		" -X k8s.io/client-go/pkg/version.gitVersion=" + kubernetesVersion
}

// programs are what a cluster is made of. The Go build cache makes a second run
// a matter of seconds.
func (p Paths) programs() []build {
	bin := p.Bin("") + "/"
	return []build{
		{title: "Kubernetes", dir: "e2e/tools/kube", ldflags: kubeFlags(), output: bin, packages: []string{
			"k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-controller-manager",
			"k8s.io/kubernetes/cmd/kube-proxy", "k8s.io/kubernetes/cmd/kube-scheduler",
			"k8s.io/kubernetes/cmd/kubectl", "k8s.io/kubernetes/cmd/kubelet",
			"k8s.io/kubernetes/test/images/agnhost", "go.etcd.io/etcd/etcdctl/v3", "github.com/onsi/ginkgo/v2/ginkgo",
		}, pinned: true, names: []string{
			"kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet", "agnhost", "etcdctl", "ginkgo",
		}},
		{
			title: "etcd", dir: "e2e/tools/kube", ldflags: kubeFlags(), output: p.Bin("etcd"), // else it would be called "v3"
			packages: []string{"go.etcd.io/etcd/server/v3"}, pinned: true, names: []string{"etcd"},
		},
		{
			title: "the side containers and Helm", dir: "e2e/tools/sidecars", ldflags: "-s -w", output: bin, packages: []string{"tool"},
			pinned: true, names: []string{"csi-attacher", "csi-resizer", "csi-snapshotter", "snapshot-controller", "helm"},
		},
		{
			title: "the provisioner", dir: "e2e/tools/provisioner", ldflags: "-s -w", output: bin, packages: []string{"tool"},
			pinned: true, names: []string{"csi-provisioner"},
		},
		{title: "devcloud", dir: ".", ldflags: "-s -w", output: bin, packages: []string{"./cmd/devcloud"}},
	}
}

// suite is Kubernetes' own tests.
func (p Paths) suite() build {
	return build{
		title: "Kubernetes' own tests", dir: "e2e/tools/kube", ldflags: kubeFlags(), output: p.Bin("e2e.test"),
		packages: []string{"k8s.io/kubernetes/test/e2e"}, test: true, pinned: true, names: []string{"e2e.test"},
	}
}
