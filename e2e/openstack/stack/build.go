package stack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest/inside"
	"github.com/cinder-csi/cinder-csi/internal/guest/image"
)

// build is what guests boot from.
type build struct {
	dir               string
	kernel, initramfs string
	// hash tells builds apart.
	hash string
}

func (b *build) remove() {
	if b != nil {
		_ = os.RemoveAll(b.dir) // in the folder of the state, which goes with it
	}
}

// build compiles the guests' first process and the node plugin, and makes a
// kernel and an initramfs of Debian's packages and these.
func (s *Stack) build(ctx context.Context) (*build, error) {
	dir, err := os.MkdirTemp(s.path("state"), "guest-")
	if err != nil {
		return nil, err
	}
	b := &build{dir: dir, initramfs: filepath.Join(dir, "initramfs")}
	root, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cinder-csi/cinder-csi")
	if err != nil {
		return b, fmt.Errorf("find the checkout: %w", err)
	}
	sum := sha256.New()
	for name, from := range map[string]string{"plugin": root, "init": filepath.Join(root, "e2e")} {
		pkg := map[string]string{"plugin": "./cmd/cinder-csi-plugin", "init": "./openstack/cmd/guest-init"}[name]
		_, err := output(ctx, from, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, name), pkg)
		if err != nil {
			return b, err
		}
	}
	for _, name := range []string{"plugin", "init"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return b, err
		}
		_, _ = sum.Write(content) // never fails
	}
	b.hash = hex.EncodeToString(sum.Sum(nil))
	made, err := image.Build(ctx, filepath.Join(dir, "init"), image.Extra{
		Files: map[string]string{inside.Plugin: filepath.Join(dir, "plugin")}, Programs: shell(),
	})
	if err != nil {
		return b, err
	}
	b.kernel = made.Kernel
	return b, errors.Join(keep(made.Initramfs, b.initramfs), made.Initramfs.Close())
}

// shell is what tests look about with. The node plugin needs none of it; that
// its image has none is tested elsewhere.
func shell() []string {
	return []string{
		"sh", "cat", "cmp", "dd", "df", "dmesg", "echo", "findmnt", "grep", "head", "ls", "lsblk", "mkdir", "mv", "blockdev",
		"rm", "rmdir", "sha256sum", "sleep", "stat", "sync", "tail", "test", "touch", "true",
	}
}

// keep writes what a file without a name holds.
func keep(from *os.File, path string) error {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	to, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// output runs a program of the caller's in a folder and returns what it says.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, said.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
