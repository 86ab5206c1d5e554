package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWhatPrometheusScrapes holds the configuration that is made of a PodMonitor to what
// its operator would make.
func TestWhatPrometheusScrapes(t *testing.T) {
	var monitor podMonitor
	if err := json.Unmarshal([]byte(`{
		"metadata": {"name": "cinder-csi-node", "namespace": "kube-system"},
		"spec": {
			"selector": {"matchLabels": {"app.kubernetes.io/name": "cinder-csi"}},
			"podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": "30s", "relabelings": [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}]}]
		}
	}`), &monitor); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.yml")
	if err := writeYAML(path, monitor.scrapeConfigs("/targets.json")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = `- file_sd_configs:
    - files:
        - /targets.json
  job_name: podMonitor/kube-system/cinder-csi-node/0
  metric_relabel_configs: []
  metrics_path: /metrics
  relabel_configs:
    - action: drop
      regex: Failed|Succeeded
      source_labels:
        - __meta_kubernetes_pod_phase
    - action: keep
      regex: kube-system
      source_labels:
        - __meta_kubernetes_namespace
    - action: keep
      regex: cinder-csi
      source_labels:
        - __meta_kubernetes_pod_label_app_kubernetes_io_name
    - action: keep
      regex: http
      source_labels:
        - __meta_kubernetes_pod_container_port_name
    - source_labels:
        - __meta_kubernetes_namespace
      target_label: namespace
    - source_labels:
        - __meta_kubernetes_pod_container_name
      target_label: container
    - source_labels:
        - __meta_kubernetes_pod_name
      target_label: pod
    - replacement: kube-system/cinder-csi-node
      target_label: job
    - replacement: http
      target_label: endpoint
    - source_labels:
        - __meta_kubernetes_pod_node_name
      target_label: node
  scrape_interval: 30s
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

func TestTheTargetsAreThePortsOfPodsThatHaveAnAddress(t *testing.T) {
	var pods podList
	if err := json.Unmarshal([]byte(`{"items": [
		{
			"metadata": {"name": "node-a", "namespace": "kube-system", "labels": {"app.kubernetes.io/name": "cinder-csi"}},
			"spec": {"nodeName": "n1", "containers": [{"name": "plugin", "ports": [{"name": "http", "containerPort": 9808}]}, {"name": "without"}]},
			"status": {"phase": "Running", "podIP": "10.99.0.11"}
		},
		{
			"metadata": {"name": "waits", "namespace": "kube-system"},
			"spec": {"containers": [{"name": "plugin", "ports": [{"name": "http", "containerPort": 9808}]}]},
			"status": {"phase": "Pending"}
		}
	]}`), &pods); err != nil {
		t.Fatal(err)
	}
	want := []target{{[]string{"10.99.0.11:9808"}, map[string]string{
		"__meta_kubernetes_namespace": "kube-system", "__meta_kubernetes_pod_name": "node-a", "__meta_kubernetes_pod_phase": "Running",
		"__meta_kubernetes_pod_node_name": "n1", "__meta_kubernetes_pod_container_name": "plugin", "__meta_kubernetes_pod_container_port_name": "http",
		"__meta_kubernetes_pod_label_app_kubernetes_io_name": "cinder-csi",
	}}}
	if diff := cmp.Diff(want, pods.targets()); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}
