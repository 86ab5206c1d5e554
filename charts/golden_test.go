package charts

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// With -update, tests write what they otherwise compare: the golden files, the
// chart's README and dashboard, and manifests/.
var update = flag.Bool("update", false, "write the golden files, the chart's README and dashboard, and manifests/")

// goldenValues are the names of the files in testdata/values.
func goldenValues() []string { return []string{"default", "minimal", "everything"} }

func TestRenderingsAreGolden(t *testing.T) {
	for _, values := range goldenValues() {
		t.Run(values, func(t *testing.T) {
			golden(t, filepath.Join("testdata", "golden", values+".yaml"), helm3.run(t, template(t, values)...))
		})
	}
}

// golden compares the content of a file, or writes it.
func golden(t *testing.T, path, content string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run make manifests", err)
	}
	if diff := cmp.Diff(string(want), content); diff != "" {
		t.Errorf("%s is not current: run make manifests and look at the difference:\n%s", path, diff)
	}
}

func TestHelm3And4MakeTheSame(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if dir := filepath.Dir(file); dir != "testdata/values" && dir != "testdata/fleet" {
			continue
		}
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			args := template(t, "", "--values", file)
			three, four := parse(t, helm3.run(t, args...)), parse(t, helm4.run(t, args...))
			if diff := cmp.Diff(byID(t, three), byID(t, four)); diff != "" {
				t.Errorf("Helm 3 (-) and Helm 4 (+) differ:\n%s", diff)
			}
		})
	}
}

// byID also checks that no two objects are the same one.
func byID(t *testing.T, all objects) map[string]object {
	t.Helper()
	ids := map[string]object{}
	for _, o := range all {
		if ids[o.id()] != nil {
			t.Errorf("%s is there twice", o.id())
		}
		ids[o.id()] = o
	}
	return ids
}

func TestHelmFindsNothingToCriticise(t *testing.T) {
	for _, helm := range []program{helm3, helm4} {
		for _, values := range goldenValues() {
			helm.run(t, "lint", "--strict", "--kube-version", kubernetes(t), "--values", filepath.Join("testdata", "values", values+".yaml"), chart)
		}
	}
}

// TestLongNamesAreCut: the names of Services and the values of labels have 63
// characters at the most.
func TestLongNamesAreCut(t *testing.T) {
	long := strings.Repeat("long-name-", 8)
	for _, set := range []string{"fullnameOverride=" + long + "x", "fullnameOverride=,nameOverride=" + long + "x"} {
		for _, o := range render(t, "everything", "--set", set) {
			if name := o.text("metadata", "name"); len(name) > 63 && o["kind"] == "Service" {
				t.Errorf("%s has %d characters", o.id(), len(name))
			}
			for _, labels := range []object{o.object("metadata", "labels"), o.object("spec", "template", "metadata", "labels")} {
				for key, value := range labels {
					if text, ok := value.(string); !ok || len(text) > 63 {
						t.Errorf("%s: the label %s is %v", o.id(), key, value)
					}
				}
			}
		}
	}
	// A cut leaves no character at the end that no name may end with.
	for _, cut := range []string{strings.Repeat("a", 43) + "-b", strings.Repeat("a", 43) + ".b", strings.Repeat("a", 42) + ".-b"} {
		name := render(t, "default", "--set", "fullnameOverride="+cut).only(t, "Deployment").text("metadata", "name")
		if want := strings.TrimRight(cut[:44], "-.") + "-controller"; name != want {
			t.Errorf("%s becomes %s, want %s", cut, name, want)
		}
	}
}

func TestANameAndANamespaceAreNotTakenForGranted(t *testing.T) {
	text := helm3.run(t, "template", "other", chart, "--namespace", "storage", "--kube-version", kubernetes(t),
		"--values", filepath.Join("testdata", "values", "everything.yaml"), "--set", "fullnameOverride=,nameOverride=")
	for _, o := range parse(t, text) {
		in := o.text("metadata", "namespace")
		if in != "" && in != "storage" && o.text("metadata", "name") != "other-cinder-csi-secrets" {
			t.Errorf("%s is not in the release's namespace", o.id())
		}
		switch o["kind"] {
		case "CSIDriver", "StorageClass", "VolumeSnapshotClass", "VolumeAttributesClass", "Secret", "ServiceAccount":
			continue // their names are the driver's, or values
		}
		if name := o.text("metadata", "name"); len(name) < 16 || name[:16] != "other-cinder-csi" {
			t.Errorf("%s is not named after its release", o.id())
		}
	}
}
