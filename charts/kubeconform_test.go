package charts

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// prometheusOperator is where the definitions of its monitors come from.
const prometheusOperator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"

// openAPI names a variable with the path of an API server's OpenAPI document
// (kubectl get --raw /openapi/v2). What that server knows is then checked as it
// knows it, custom resources included.
const openAPI = "CINDER_CHART_OPENAPI"

// schemaDir holds the schemas of every kind that the chart may make.
func schemaDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	snapshots := filepath.Join(module(t, sidecars, "github.com/kubernetes-csi/external-snapshotter/client/v8"), "config", "crd")
	fromCRD(t, filepath.Join(snapshots, "snapshot.storage.k8s.io_volumesnapshotclasses.yaml")).write(t, dir)
	var operator struct{ Dir string }
	if err := json.Unmarshal([]byte(goCommand(t, "tools", "mod", "download", "-json", prometheusOperator)), &operator); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"servicemonitors", "podmonitors", "prometheusrules"} {
		fromCRD(t, filepath.Join(operator.Dir, "example", "prometheus-operator-crd", "monitoring.coreos.com_"+kind+".yaml")).write(t, dir)
	}
	// OpenShift's modules aren't for download: these are the fields of its API reference.
	fromCRD(t, filepath.Join("testdata", "schemas", "securitycontextconstraints.yaml")).write(t, dir)

	path := os.Getenv(openAPI)
	if path == "" {
		fromOpenAPI(t, document(t, filepath.Join(module(t, "../e2e/tools/kube", "k8s.io/kubernetes"), "api", "openapi-spec", "swagger.json"))).write(t, dir)
		return dir
	}
	served := fromOpenAPI(t, document(t, path))
	served.write(t, dir)
	own, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, schema := range own {
		if served[schema.Name()] == nil {
			t.Logf("the cluster doesn't know %s: checked as its project publishes it", schema.Name())
		}
	}
	return dir
}

func document(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestKubernetesKnowsEveryField(t *testing.T) {
	location := filepath.Join(schemaDir(t), schemaLocation)
	files := map[string]string{}
	for _, values := range goldenValues() {
		files[values] = helm3.run(t, template(t, values)...)
	}
	files["openshift"] = helm3.run(t, template(t, "default", "--set", "openshift.enabled=true")...)
	files["scraped"] = helm3.run(t, template(t, "default", "--set", "metrics.podMonitor.enabled=true,metrics.dashboard.enabled=true,metrics.prometheusRule.enabled=true,networkPolicy.enabled=true,networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus")...)
	for _, name := range fleet(t) {
		files["fleet-"+name] = helm3.run(t, template(t, "", "--values", filepath.Join("testdata", "fleet", name+".yaml"))...)
	}
	files["1.37"] = helm3.run(t, template(t, "default", "--kube-version", "1.37.0")...)
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, _, err := kubeconform.try(t, "-strict", "-schema-location", location, dir); err != nil {
		t.Error(out)
	}

	// The check itself is checked: a typing error somewhere deep is found.
	for _, mistake := range [][2]string{
		{"terminationMessagePolicy: F", "terminationMesagePolicy: F"},
		{"podInfoOnMount: true", "podInfoOnMount: yes please"},
		{"attachRequired: true", "attachRequire: true"},
		{"unhealthyPodEvictionPolicy", "unhealthyPodEviction"},
		{"matchLabelKeys", "matchLabelsKeys"},
		{"verbs: [list, watch]", "verb: [list, watch]"},
	} {
		path := filepath.Join(t.TempDir(), "mistake.yaml")
		wrong := strings.Replace(files["default"], mistake[0], mistake[1], 1)
		if wrong == files["default"] {
			t.Fatalf("nothing says %s any more", mistake[0])
		}
		if err := os.WriteFile(path, []byte(wrong), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _, err := kubeconform.try(t, "-strict", "-schema-location", location, path)
		if err == nil || !strings.Contains(out, "is invalid") {
			t.Errorf("%s: %v %s", mistake[1], err, out)
		}
	}
}
