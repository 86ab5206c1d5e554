// Package charts tests the chart: what Helm makes of it, what Kubernetes would
// say to that, and that what is generated from it is current.
package charts

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	chart = "cinder-csi"
	// release and namespace are those of the README and of manifests/.
	release   = "cinder-csi"
	namespace = "kube-system"
)

// program is a tool that is built, once, from a module that pins its version.
type program struct {
	name, module, path string
	once               *sync.Once
	err                *string
}

func tool(name, module, path string) program {
	return program{name, module, path, new(sync.Once), new(string)}
}

var (
	helm3 = tool("helm3", sidecars, "helm.sh/helm/v3/cmd/helm")
	helm4 = tool("helm4", "tools", "helm.sh/helm/v4/cmd/helm")

	helmDocs    = tool("helm-docs", "tools", "github.com/norwoodj/helm-docs/cmd/helm-docs")
	kubeconform = tool("kubeconform", "tools", "github.com/yannh/kubeconform/cmd/kubeconform")
	kustomize   = tool("kustomize", "tools", "sigs.k8s.io/kustomize/kustomize/v5")
	// plugin is the driver itself, for its command line.
	plugin = tool("cinder-csi-plugin", "..", "./cmd/cinder-csi-plugin")
)

// bin is where programs are kept from one run to the next.
const bin = "../bin/tools"

// build returns the path of the program. The flags are those of the
// end-to-end cluster's programs, so that both share the compiler's work.
func (p program) build(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, p.name)
	p.once.Do(func() {
		cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, p.path)
		cmd.Dir = p.module
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			*p.err = "building " + p.name + ": " + err.Error() + "\n" + string(out)
		}
	})
	if *p.err != "" {
		t.Fatal(*p.err)
	}
	return path
}

// run returns what the program prints, and fails the test where it fails.
func (p program) run(t *testing.T, args ...string) string {
	t.Helper()
	out, said, err := p.try(t, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", p.name, strings.Join(args, " "), err, said, out)
	}
	return out
}

func (p program) try(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.build(t), args...)
	// Nobody's configuration and plugins: the outcome is the same everywhere.
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG=/dev/null")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return out.String(), said.String(), err
}

// module returns the directory of a module that another one requires.
func module(t *testing.T, requiredBy, path string) string {
	t.Helper()
	goCommand(t, requiredBy, "mod", "download", path)
	dir := goCommand(t, requiredBy, "list", "-m", "-f", "{{.Dir}}", path)
	if dir == "" {
		t.Fatalf("%s is not among the modules that %s requires", path, requiredBy)
	}
	return dir
}

func goCommand(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, said.String())
	}
	return strings.TrimSpace(out.String())
}
