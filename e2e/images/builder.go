package images

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recipe is this package: an image is built again when what builds it changes.
//
//go:embed *.go
var recipe embed.FS

// Builder builds images into a directory.
type Builder struct {
	// Dir is the state directory of the cluster: programs go to its bin,
	// archives to its images, and what is kept between builds to its build.
	Dir string
	// Source is the checkout that the images are built from.
	Source string
	// Log is told what is being built.
	Log io.Writer

	bases bases // of the Dockerfile
}

// Image is an image that the Builder can build.
type Image struct {
	// File is the name of its archive.
	File string
	// Tags are its names.
	Tags []string
	// input tells what it is made of: the same input makes the same image.
	input func(context.Context) (string, error)
	// write makes it, into an archive.
	write func(ctx context.Context, archive string) error
}

// Build builds those images whose input has changed since they were built, and
// reports how many these are. Builders in one directory wait for each other.
func (b *Builder) Build(ctx context.Context, images []Image) (built int, err error) {
	for _, dir := range []string{b.bin(), b.archives(), b.keep("keys")} {
		if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- nothing secret
			return 0, err
		}
	}
	unlock, err := lock(b.keep("lock"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for _, image := range images {
		start := time.Now()
		fresh, err := b.build(ctx, image)
		if err != nil {
			return built, fmt.Errorf("image %s: %w", image.Tags[0], err)
		}
		if fresh {
			built++
			b.say("%-60s %5.1f s", image.Tags[0], time.Since(start).Seconds())
		}
	}
	return built, nil
}

func (b *Builder) build(ctx context.Context, image Image) (fresh bool, err error) {
	input, err := image.input(ctx)
	if err != nil {
		return false, err
	}
	key, err := digest(append([]string{input}, image.Tags...))
	if err != nil {
		return false, err
	}
	archive, keyFile := filepath.Join(b.archives(), image.File), b.keep("keys", image.File)
	if old, err := os.ReadFile(keyFile); err == nil && string(old) == key {
		if _, err := os.Stat(archive); err == nil {
			return false, nil
		}
	}
	temp := archive + ".new"
	if err := image.write(ctx, temp); err != nil {
		return false, errors.Join(err, os.RemoveAll(temp))
	}
	if err := replace(archive, temp); err != nil {
		return false, err
	}
	return true, os.WriteFile(keyFile, []byte(key), 0o600)
}

// replace puts an archive in the place of an old one, unless they are the same:
// nodes take an archive that hasn't been touched for one that they have imported.
func replace(old, fresh string) error {
	a, err := sum(old)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b, err := sum(fresh)
	if err != nil {
		return err
	}
	if a == b {
		return os.Remove(fresh)
	}
	return os.Rename(fresh, old)
}

func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return string(hash.Sum(nil)), errors.Join(err, f.Close())
}

// digest is a fingerprint of parts and of the recipe.
func digest(parts []string) (string, error) {
	sources, err := recipe.ReadDir(".")
	if err != nil {
		return "", err
	}
	for _, source := range sources {
		if strings.HasSuffix(source.Name(), "_test.go") {
			continue
		}
		text, err := recipe.ReadFile(source.Name())
		if err != nil {
			return "", err
		}
		parts = append(parts, string(text))
	}
	return fingerprint(parts...), nil
}

func fingerprint(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (b *Builder) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.Log, format+"\n", args...)
}

func (b *Builder) bin() string      { return filepath.Join(b.Dir, "bin") }
func (b *Builder) archives() string { return filepath.Join(b.Dir, "images") }

// keep is where things are kept that make the next build quick.
func (b *Builder) keep(parts ...string) string {
	return filepath.Join(append([]string{b.Dir, "build"}, parts...)...)
}

// lock waits until nobody else has the lock of a file, and takes it. It goes with
// the process, however that ends.
func lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f.Close, nil
}
