package tests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// kubectl runs kubectl and returns what it says.
func (s *scenario) kubectl(ctx context.Context, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.cluster.BinDir, "kubectl"), append([]string{"--kubeconfig", s.cluster.Kubeconfig}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("kubectl %v: %w: %s", args, err, out)
	}
	return out, err
}

// editor is a text editor for people who know what they want: in the file that
// it is given it changes what the claim asks for, and nothing that the status says.
const editor = `#!/bin/sh
set -eu
grep -q "^kind: PersistentVolumeClaim$" "$1"
sed -i '/^spec:/,/^status:/s/storage: %s$/storage: %s/' "$1"
`

// editClaim has a person run "kubectl edit pvc" and change the size.
func (s *scenario) editClaim(name, before, after string) {
	s.Helper()
	path := filepath.Join(s.TempDir(), "editor")
	s.must(os.WriteFile(path, fmt.Appendf(nil, editor, before, after), 0o700), "writing an editor")
	out, err := s.kubectl(s.Context(), []string{"KUBE_EDITOR=" + path}, "edit", "pvc", name, "--namespace", s.namespace)
	s.must(err, "editing claim %s", name)
	s.Logf("$ kubectl edit pvc %s: %s", name, out)
}
