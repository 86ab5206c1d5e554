package upstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Source returns the directory with the source of the Kubernetes that a module
// requires, here e2e/tools/kube. It is downloaded if need be.
func Source(ctx context.Context, moduleDir string) (string, error) {
	dir, err := goCommand(ctx, moduleDir, "list", "-m", "-f", "{{.Dir}}", suiteModule)
	if err == nil && dir == "" {
		if _, err = goCommand(ctx, moduleDir, "mod", "download", suiteModule); err == nil {
			dir, err = goCommand(ctx, moduleDir, "list", "-m", "-f", "{{.Dir}}", suiteModule)
		}
	}
	if err != nil {
		return "", fmt.Errorf("where is the source of %s: %w", suiteModule, err)
	}
	return dir, nil
}

func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}
