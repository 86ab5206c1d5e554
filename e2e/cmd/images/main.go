// Command images builds the container images of the end-to-end cluster.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cinder-csi/cinder-csi/e2e/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "images:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

func run(ctx context.Context) error {
	dir := os.Getenv("CINDER_E2E_DIR")
	if dir == "" {
		dir = "/var/tmp/cinder-csi-e2e"
	}
	source, err := checkout(ctx)
	if err != nil {
		return err
	}
	builder := &images.Builder{Dir: dir, Source: source, Log: os.Stdout}
	all := builder.All()
	built, err := builder.Build(ctx, all)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(os.Stdout, "%d images, %d of them built, in %s\n", len(all), built, filepath.Join(dir, "images"))
	return nil
}

// checkout is the directory above this program's module.
func checkout(ctx context.Context) (string, error) {
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	path := strings.TrimSpace(string(gomod))
	if filepath.Base(filepath.Dir(path)) != "e2e" {
		return "", fmt.Errorf("run this in the e2e folder of a checkout, not in %s", filepath.Dir(path))
	}
	return filepath.Dir(filepath.Dir(path)), nil
}
