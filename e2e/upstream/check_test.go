package upstream

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// kubernetesSource is the source of the Kubernetes that e2e/tools/kube pins.
func kubernetesSource(t *testing.T) string {
	t.Helper()
	dir, err := Source(t.Context(), "../tools/kube")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTestDriverFilesHaveNoKeyThatTheSuiteIgnores(t *testing.T) {
	if err := CheckFiles(kubernetesSource(t)); err != nil {
		t.Error(err)
	}
}

func TestSchemaIsThatOfTheSuite(t *testing.T) {
	schema, err := ReadSchema(kubernetesSource(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"persistence", "RWX", "seLinuxMount", "FSResizeFromSourceNotSupported"} {
		if !slices.Contains(schema.Capabilities, name) {
			t.Errorf("the suite knows the capability %s, which was not found", name)
		}
	}
	if len(schema.Capabilities) < 24 {
		t.Errorf("only %d capabilities were found: %v", len(schema.Capabilities), schema.Capabilities)
	}
}

func TestWrongTestDriverFilesAreRefused(t *testing.T) {
	schema, err := ReadSchema(kubernetesSource(t))
	if err != nil {
		t.Fatal(err)
	}
	good, err := files.ReadFile("testdriver.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, old, new, says string }{
		{"a key at the top", "StorageClass:", "ClaimSize: 2Gi\nStorageClass:", `"ClaimSize" in the file`},
		{"a key in other letters", "DriverInfo:", "driverInfo:", `"driverInfo"`},
		{"a key of a class", "FromExistingClassName: e2e-upstream-ext4", "FromExistingClass: x", `"FromExistingClass" in StorageClass`},
		{"a key of stress options", "NumRestarts:", "Restarts:", `"Restarts" in DriverInfo.StressTestOptions`},
		{"a key of sizes", "Min: 1Gi", "Minimum: 1Gi", `"Minimum" in DriverInfo.SupportedSizeRange`},
		{"a timeout", "PodStart: 5m", "PodsStart: 5m", `"PodsStart" in Timeouts`},
		{"a capability with a typing error", "    exec: true", "    # why\n    exex: true", `"exex"`},
		{"a capability that is left out", "    exec: true\n", "", "exec is not decided on"},
		{"a capability without a reason", "    # Cinder clones volumes.\n", "", "pvcDataSource has no reason"},
		{"a capability that is a word", "pvcDataSource: true", "pvcDataSource: sometimes", "pvcDataSource is neither"},
		{"a key twice", "    exec: true", "    exec: true\n    exec: false", "already defined"},
		{"a value for keys", "StressTestOptions:\n    NumPods: 6\n    NumRestarts: 4", "StressTestOptions: 6", "wants keys in DriverInfo.StressTestOptions"},
		{"a list for keys", "SupportedSizeRange:\n    Min: 1Gi", "SupportedSizeRange: []\n  MaxSize:\n    Min: 1Gi", "no list in DriverInfo.SupportedSizeRange"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wrong := strings.Replace(string(good), test.old, test.new, 1)
			if wrong == string(good) {
				t.Fatalf("%q is not in testdriver.yaml", test.old)
			}
			err := schema.Check([]byte(wrong))
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want an error that says %s", err, test.says)
			}
		})
	}
}

func TestSourceOfAnUnknownModuleIsAnError(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatal(err)
	}
	if _, err := Source(t.Context(), t.TempDir()); err == nil {
		t.Error("no error outside of a module")
	}
}
