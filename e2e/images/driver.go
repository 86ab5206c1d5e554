package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// driver is a target of the Dockerfile.
func (b *Builder) driver(target string) Image {
	name := "cinder-csi-" + target
	tag := "localhost/" + name + ":e2e"
	return Image{
		File: name + ".tar",
		Tags: []string{tag},
		// buildah knows better than anybody what has changed, and takes half a
		// second to find that nothing has.
		input: func(ctx context.Context) (string, error) { return b.dockerfile(ctx, target, runtime.GOARCH, tag) },
		write: func(ctx context.Context, archive string) error {
			_, err := b.buildah(ctx, "push", "--quiet", tag, "docker-archive:"+archive)
			return err
		},
	}
}

// dockerfile builds a target of the Dockerfile for an architecture and returns
// the image's id. The bases that the Dockerfile names are made here, and the Go
// toolchain and its caches are this machine's.
func (b *Builder) dockerfile(ctx context.Context, target, arch, tag string) (id string, err error) {
	bases, err := b.makeBases(ctx)
	if err != nil {
		return "", err
	}
	env, err := goEnv(ctx, "GOROOT", "GOMODCACHE", "GOCACHE")
	if err != nil {
		return "", err
	}
	idFile := b.keep("id-" + target)
	_, err = b.buildah(ctx, "build",
		"--isolation", "chroot", // needs no container runtime
		"--layers", "--force-rm", "--quiet",
		"--timestamp", "0", // the same content has the same digest
		"--platform", "linux/"+arch,
		"--build-arg", "BUILDPLATFORM=linux/"+runtime.GOARCH, // Debian 12's buildah doesn't set it by itself
		"--build-arg", "GO_IMAGE="+bases.golang,
		"--build-arg", "DEBIAN_IMAGE="+bases.debian,
		"--build-arg", "VERSION=e2e",
		"--volume", env[0]+":"+toolchain+":ro",
		"--volume", env[1]+":"+moduleCache,
		"--volume", env[2]+":"+buildCache,
		"--ignorefile", filepath.Join(b.Source, ".dockerignore"),
		"--file", filepath.Join(b.Source, "Dockerfile"),
		"--target", target, "--tag", tag, "--iidfile", idFile, b.Source)
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(idFile)
	return string(content), err
}

// buildah runs in a mount namespace of its own, so that none of its mounts is left
// behind, whatever happens to it.
func (b *Builder) buildah(ctx context.Context, args ...string) (stdout string, err error) {
	if _, err := exec.LookPath("buildah"); err != nil {
		return "", fmt.Errorf("%w: install the package buildah", err)
	}
	if err := os.MkdirAll(b.keep("tmp"), 0o755); err != nil { // #nosec G301 -- nothing secret
		return "", err
	}
	state, err := os.MkdirTemp(b.keep(), "buildah-run-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	return run(ctx, "", "env", append([]string{
		// also where it keeps the caches that the Dockerfile mounts
		"TMPDIR=" + b.keep("tmp"),
		"unshare", "--mount", "buildah", "--storage-driver", "overlay", "--root", b.store(), "--runroot", state,
	}, args...)...)
}

func (b *Builder) store() string { return b.keep("store") }

// boundStore empties buildah's store when it has become large: each change of the
// driver leaves a few layers of 20 MB there, which nothing else ever removes.
func (b *Builder) boundStore() error {
	const layers = 250 // some 4 GB
	found, err := os.ReadDir(filepath.Join(b.store(), "overlay"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(found) <= layers {
		return nil
	}
	if err != nil {
		return err
	}
	b.say("emptying the store of layers: it has become large")
	return os.RemoveAll(b.store())
}

// run runs a program and returns what it printed; what it complained about is in
// the error.
func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

func goEnv(ctx context.Context, names ...string) ([]string, error) {
	out, err := run(ctx, "", "go", append([]string{"env"}, names...)...)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSpace(out), "\n"), nil
}
