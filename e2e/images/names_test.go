package images

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// source is this checkout.
func source(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func tags(t *testing.T) []string {
	t.Helper()
	b := &Builder{Source: source(t)}
	var all []string
	for _, image := range b.All() {
		all = append(all, image.Tags...)
	}
	return all
}

func TestTheSuiteFindsItsImagesUnderTheNamesThatItAsksFor(t *testing.T) {
	dir, err := run(t.Context(), filepath.Join(source(t), "e2e", "tools", "kube"), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(strings.TrimSpace(dir), "test", "utils", "image", "manifest.go"))
	if err != nil {
		t.Fatal(err)
	}
	registries := map[string]string{"PromoterE2eRegistry": "registry.k8s.io/e2e-test-images/", "GcRegistry": "registry.k8s.io/"}
	for _, id := range []string{"BusyBox", "Agnhost", "AgnhostPrev", "Nginx", "NginxNew", "GlibcDnsTesting", "Pause"} {
		line := regexp.MustCompile(`configs\[` + id + `\] = Config\{list\.(\w+), "([^"]+)", "([^"]+)"\}`).FindStringSubmatch(string(manifest))
		if line == nil {
			t.Errorf("the suite of this version knows no %s", id)
			continue
		}
		if want := registries[line[1]] + line[2] + ":" + line[3]; !slices.Contains(tags(t), want) {
			t.Errorf("the suite asks for %s, which is not built", want)
		}
	}
}

func TestSidecarsHaveTheVersionsThatTheyAreBuiltFrom(t *testing.T) {
	for _, p := range sidecarPrograms() {
		gomod, err := os.ReadFile(filepath.Join(source(t), "e2e", p.dir, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		module, _, _ := strings.Cut(p.pkg, "/cmd/")
		version := regexp.MustCompile(regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(gomod)
		if version == nil {
			t.Errorf("%s does not require %s", p.dir, module)
			continue
		}
		if want := "registry.k8s.io/sig-storage/" + p.name() + ":" + string(version[1]); !slices.Contains(tags(t), want) {
			t.Errorf("%s is built, but under another name", want)
		}
	}
}

func TestTheChartFindsItsSidecars(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(source(t), "charts", "cinder-csi", "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		Sidecars map[string]struct {
			Image struct{ Repository, Tag string }
		}
	}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	for _, sidecar := range []string{"provisioner", "attacher", "resizer", "snapshotter"} {
		image := values.Sidecars[sidecar].Image
		if want := image.Repository + ":" + image.Tag; !slices.Contains(tags(t), want) {
			t.Errorf("the chart's %s is %s, which is not built", sidecar, want)
		}
	}
}
