package images

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Where the golang base finds what this machine has.
const (
	toolchain   = "/usr/local/go"
	moduleCache = "/host/mod"
	buildCache  = "/host/cache"
)

// bases are the names of what stands for the images that the Dockerfile starts
// from.
type bases struct{ debian, golang string }

// makeBases makes them, once: a Debian like the slim image, and the same with a
// Go toolchain, which is this machine's and comes in when it is used.
func (b *Builder) makeBases(ctx context.Context) (bases, error) {
	if b.bases != (bases{}) {
		return b.bases, nil
	}
	if err := b.boundStore(); err != nil {
		return bases{}, err
	}
	key, err := b.debian(ctx)
	if err != nil {
		return bases{}, err
	}
	made := bases{debian: "localhost/debian:" + key, golang: "localhost/golang:" + key}
	known, err := b.buildah(ctx, "images", "--format", "{{.Name}}:{{.Tag}}")
	if err != nil {
		return bases{}, err
	}
	if !strings.Contains(known, made.golang) {
		err = errors.Join(
			b.makeBase(ctx, made.debian, "FROM scratch\nADD "+key+".tar /\nCMD [\"bash\"]\n"),
			b.makeBase(ctx, made.golang, "FROM "+made.debian+"\nENV PATH="+toolchain+"/bin:/usr/sbin:/usr/bin:/sbin:/bin"+
				" GOPROXY=off GOTOOLCHAIN=local GOMODCACHE="+moduleCache+" GOCACHE="+buildCache+"\n"))
	}
	if err == nil {
		b.bases = made
	}
	return made, err
}

func (b *Builder) makeBase(ctx context.Context, tag, dockerfile string) error {
	file := b.keep("debian", "Dockerfile")
	if err := os.WriteFile(file, []byte(dockerfile), 0o600); err != nil {
		return err
	}
	_, err := b.buildah(ctx, "build", "--isolation", "chroot", "--layers", "--timestamp", "0", "--quiet",
		"--file", file, "--tag", tag, filepath.Dir(file))
	return err
}

// debian makes the root of a Debian and returns its key, by which it is found
// again.
func (b *Builder) debian(ctx context.Context) (key string, err error) {
	args := []string{
		"--mode=root", "--variant=minbase", "--format=tar",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright",
		"--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
	}
	apt, err := hostApt(ctx)
	if err != nil {
		return "", err
	}
	if apt.proxy != "" {
		args = append(args, "--aptopt="+apt.proxy)
	}
	args = append(args, suite)
	key = fingerprint(append(args, apt.sources)...)[:16]
	dir := b.keep("debian")
	root := filepath.Join(dir, key+".tar")
	if _, err := os.Stat(root); err == nil {
		return key, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- nothing secret
		return "", err
	}
	list := filepath.Join(dir, "sources.list")
	if err := os.WriteFile(list, []byte(apt.sources), 0o600); err != nil {
		return "", err
	}
	b.say("making a Debian %s to build on", suite)
	temp := filepath.Join(dir, "new.tar")
	if _, err := run(ctx, "", "mmdebstrap", append(args, temp, list)...); err != nil {
		return "", err
	}
	return key, os.Rename(temp, root)
}
