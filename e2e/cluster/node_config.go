package cluster

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed config/containerd.toml
var containerdConfig []byte

// object is a piece of configuration; all of it is written as JSON, which is YAML.
type object = map[string]any

// nodeFile is a file in a node's own root.
type nodeFile struct {
	path    string
	content []byte
}

// nodeFiles returns the configuration of a node.
func (p Paths) nodeFiles(s spec, serverID string) ([]nodeFile, error) {
	hosts := []byte("127.0.0.1 localhost\n")
	for _, other := range specs() {
		hosts = fmt.Appendln(hosts, other.address(), other.name)
	}
	files := []nodeFile{
		{"/etc/hostname", []byte(s.name + "\n")},
		{"/etc/hosts", hosts},
		// There is no DNS: a server that is named makes whoever asks wait.
		{"/etc/resolv.conf", []byte("search cluster.local\n")},
		{"/etc/machine-id", []byte(strings.ReplaceAll(serverID, "-", "") + "\n")},
		{containerdPath, containerdConfig},
	}
	for path, config := range map[string]object{
		"/etc/cni/net.d/10-e2e.conflist": cniConfig(s),
		kubeletPath:                      p.kubeletConfig(s, serverID),
		proxyPath:                        p.proxyConfig(s),
	} {
		content, err := json.MarshalIndent(config, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		files = append(files, nodeFile{path, append(content, '\n')})
	}
	return files, nil
}

// Where the components of a node find their configuration.
const (
	containerdPath = "/etc/containerd/e2e.toml"
	kubeletPath    = "/etc/kubernetes/kubelet.yaml"
	proxyPath      = "/etc/kubernetes/proxy.yaml"
)

func cniConfig(s spec) object {
	return object{
		"cniVersion": "0.4.0", "name": "e2e",
		"plugins": []object{
			{
				"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
				"ipam": object{
					"type": "host-local", "ranges": [][]object{{{"subnet": s.podCIDR()}}},
					"routes": []object{{"dst": "0.0.0.0/0"}},
					// Addresses of before a power cut are nobody's.
					"dataDir": "/run/cni",
				},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}
}

func (p Paths) kubeletConfig(s spec, serverID string) object {
	return object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": s.address(), "healthzBindAddress": "127.0.0.1",
		"providerID": "openstack:///" + serverID,
		"authentication": object{
			"anonymous": object{"enabled": false}, "webhook": object{"enabled": true},
			"x509": object{"clientCAFile": p.pki("ca.crt")},
		},
		"authorization":            object{"mode": "Webhook"},
		"tlsCertFile":              p.pki("kubelet-server-" + s.name + ".crt"),
		"tlsPrivateKeyFile":        p.pki("kubelet-server-" + s.name + ".key"),
		"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
		"clusterDomain":            "cluster.local", "clusterDNS": []string{"10.96.0.10"}, "resolvConf": "/etc/resolv.conf",
		"oomScoreAdj": 0, "failCgroupV1": false, "failSwapOn": false,
		"cgroupDriver": "cgroupfs", "cgroupRoot": p.kubeletGroup(s.name),
		// The disk is the machine's: what it lacks is not for the kubelet to free.
		"evictionHard": object{
			"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%",
		},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		// A volume's growth waits for this; the default is a minute.
		"syncFrequency":             "10s",
		"nodeStatusUpdateFrequency": "4s", "nodeStatusReportFrequency": "30s",
		"makeIPTablesUtilChains": true,
		"volumePluginDir":        "/var/lib/kubelet/volumeplugins",
	}
}

func (p Paths) proxyConfig(s spec) object {
	return object{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": "iptables", "clientConnection": object{"kubeconfig": p.pki("proxy.kubeconfig")},
		"oomScoreAdj": 0, "clusterCIDR": podCIDR, "hostnameOverride": s.name,
		"healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249",
		// A network namespace may not change the machine's limits.
		"conntrack": object{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	}
}

// nodeEnviron is the environment of everything that runs in a node.
func nodeEnviron() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=xterm"}
}

// unitsOf are the programs that a node's init runs.
func (p Paths) unitsOf(s spec) []unit {
	return []unit{
		{name: "containerd", args: []string{"/usr/bin/containerd", "--config=" + containerdPath}},
		{name: "kubelet", args: []string{
			p.Bin("kubelet"), "--config=" + kubeletPath, "--kubeconfig=" + p.pki("kubelet-"+s.name+".kubeconfig"),
			"--root-dir=/var/lib/kubelet", "--hostname-override=" + s.name, "--node-ip=" + s.address(),
			"--node-labels=topology.kubernetes.io/zone=" + s.zone + ",topology.kubernetes.io/region=RegionOne", "--v=2",
		}},
		{name: "kube-proxy", args: []string{p.Bin("kube-proxy"), "--config=" + proxyPath, "--v=1"}},
	}
}
