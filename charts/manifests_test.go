package charts

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// manifests is the kustomize base that is rendered from the chart.
const manifests = "../manifests"

const kustomizationHead = `# cinder-csi without Helm: kubectl apply -k manifests
#
# Rendered from charts/cinder-csi with its default values; changed by
# make manifests only. It is a base for your own kustomization. Needed besides:
#   - the Secret cloud-config in kube-system with the key cloud.conf
#   - a StorageClass with the provisioner cinder.csi.openstack.org
#   - for snapshots, the CRDs and the controller of external-snapshotter
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
`

// ofHelm are the lines of labels that are about Helm.
var ofHelm = regexp.MustCompile(`(?m)^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n`)

// manifestFiles returns the content of the files of the base: one for each
// template that makes something by default.
func manifestFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	text := ofHelm.ReplaceAllString(helm3.run(t, template(t, "")...), "")
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		head, content, _ := strings.Cut(part, "\n")
		name, ok := strings.CutPrefix(head, "# Source: cinder-csi/templates/")
		if !ok {
			continue
		}
		if files[name] != "" {
			files[name] += "---\n"
		}
		files[name] += strings.TrimRight(content, "\n") + "\n"
	}
	var names strings.Builder
	for _, name := range sortedKeys(files) {
		names.WriteString("  - " + name + "\n")
	}
	files["kustomization.yaml"] = kustomizationHead + names.String()
	return files
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func TestManifestsAreCurrent(t *testing.T) {
	files := manifestFiles(t)
	entries, err := os.ReadDir(manifests)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if _, ok := files[entry.Name()]; ok {
			continue
		}
		if !*update {
			t.Errorf("%s is not made from the chart: run make manifests", filepath.Join(manifests, entry.Name()))
			continue
		}
		if err := os.Remove(filepath.Join(manifests, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		golden(t, filepath.Join(manifests, name), content)
	}
}

func TestKustomizeMakesWhatHelmMakes(t *testing.T) {
	byHelm := byID(t, parse(t, ofHelm.ReplaceAllString(helm3.run(t, template(t, "")...), "")))
	byKustomize := byID(t, parse(t, kustomize.run(t, "build", manifests)))
	if diff := cmp.Diff(byHelm, byKustomize); diff != "" {
		t.Errorf("Helm (-) and kustomize (+) differ:\n%s", diff)
	}
}
