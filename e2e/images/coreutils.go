package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// coreutils is what the storage tests want of upstream's image with glibc: a dd
// that knows oflag=nocache, as busybox's doesn't, and a shell that runs it, while
// busybox's prefers what is built in. They are Debian's, with their C library, on
// top of busybox.
func (b *Builder) coreutils() Image {
	image := b.busybox("glibc-dns-testing.tar", v1.Config{Cmd: []string{"sleep", "infinity"}}, b.dd, suiteRegistry+"glibc-dns-testing:2.0.0")
	base := image.input
	image.input = func(ctx context.Context) (string, error) {
		debs, err := b.ddPackages(ctx)
		if err != nil {
			return "", err
		}
		busybox, err := base(ctx)
		return strings.Join(debs, "\n") + "\n" + busybox, err
	}
	return image
}

// dd returns the programs, their loader and their library.
func (b *Builder) dd(ctx context.Context) (map[string]file, error) {
	debs, err := b.ddPackages(ctx)
	if err != nil {
		return nil, err
	}
	root, err := b.unpack(ctx, debs...)
	if err != nil {
		return nil, err
	}
	files := map[string]file{"bin/sh": {link: "dash"}}
	// The loader is in /lib64, or in /lib, and may be a link to where the
	// library is.
	for _, pattern := range []string{"bin/dd", "bin/dash", "lib/*/libc.so.6", "lib/*/ld-linux-*", "lib/ld-linux-*", "lib64/ld-linux-*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			name, err := filepath.Rel(root, path)
			if err != nil {
				return nil, err
			}
			if files[name], err = copied(path); err != nil {
				return nil, err
			}
		}
	}
	if files["bin/dd"].body == nil || files["bin/dash"].body == nil || len(files) < 5 {
		return nil, fmt.Errorf("dd, dash, the C library and its loader are not where they should be in %s", root)
	}
	return files, nil
}

// copied returns a file as it is, a link as a link.
func copied(path string) (file, error) {
	if target, err := os.Readlink(path); err == nil {
		return file{link: target}, nil
	}
	body, err := os.ReadFile(path)
	return file{mode: 0o755, body: body}, err
}

// ddPackages returns Debian's packages with dd, a shell and their library.
func (b *Builder) ddPackages(ctx context.Context) ([]string, error) {
	var debs []string
	for _, name := range []string{"coreutils", "dash", "libc6"} {
		deb, err := b.deb(ctx, name)
		if err != nil {
			return nil, err
		}
		debs = append(debs, deb)
	}
	return debs, nil
}
