package images

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The names that Kubernetes' suite asks for; a test holds them against its source.
const suiteRegistry = "registry.k8s.io/e2e-test-images/"

// suite are the images of the test pods of Kubernetes' storage suite and of our
// own tests. Storage tests run a shell and a few tools in each of them, so each
// of them is busybox, of two megabytes, one with another dd: the time that a node
// takes to import its images is most of the time that it takes to start.
func (b *Builder) suite() []Image {
	return []Image{
		b.busybox("busybox.tar", v1.Config{Cmd: []string{"sh"}}, nil, suiteRegistry+"busybox:1.37.0-1"),
		// nginx serves files, which busybox can do, too.
		b.busybox("nginx.tar", v1.Config{Cmd: []string{"httpd", "-f", "-p", "80", "-h", "/usr/share/nginx/html"}}, nil,
			suiteRegistry+"nginx:1.15-4", suiteRegistry+"nginx:1.27-0"),
		b.coreutils(),
		b.agnhost(),
	}
}

// agnhost is upstream's program of many roles, on busybox, which it shares with
// the other images.
func (b *Builder) agnhost() Image {
	p := agnhostProgram()
	image := b.busybox("agnhost.tar", v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}}, func(ctx context.Context) (map[string]file, error) {
		body, err := b.program(ctx, p)
		if err != nil {
			return nil, err
		}
		return map[string]file{"agnhost": {mode: 0o755, body: body}, "agnhost-2": {link: "agnhost"}, "uploads": {dir: true, mode: 0o755}}, nil
	}, suiteRegistry+"agnhost:2.63.0", suiteRegistry+"agnhost:2.55")
	base := image.input
	image.input = func(ctx context.Context) (string, error) {
		version, err := b.version(ctx, p)
		if err != nil {
			return "", err
		}
		busybox, err := base(ctx)
		return version + busybox, err
	}
	return image
}

// busybox is an image of busybox, and of more on top of it.
func (b *Builder) busybox(name string, config v1.Config, more func(context.Context) (map[string]file, error), tags ...string) Image {
	config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return Image{
		File: name,
		Tags: tags,
		input: func(ctx context.Context) (string, error) {
			deb, err := b.deb(ctx, "busybox-static")
			return filepath.Base(deb), err
		},
		write: archive(tags, func(ctx context.Context) (v1.Image, error) {
			base, err := b.busyboxLayer(ctx)
			if err != nil {
				return nil, err
			}
			layers := []v1.Layer{base}
			if more != nil {
				files, err := more(ctx)
				if err != nil {
					return nil, err
				}
				top, err := layer(files)
				if err != nil {
					return nil, err
				}
				layers = append(layers, top)
			}
			return assemble(config, layers...)
		}),
	}
}

// busyboxLayer is the smallest thing that a shell feels at home in.
func (b *Builder) busyboxLayer(ctx context.Context) (v1.Layer, error) {
	deb, err := b.deb(ctx, "busybox-static")
	if err != nil {
		return nil, err
	}
	root, err := b.unpack(ctx, deb)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(root, "bin", "busybox")
	body, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	applets, err := run(ctx, "", program, "--list")
	if err != nil {
		return nil, err
	}
	files := map[string]file{
		"bin/busybox":                     {mode: 0o755, body: body},
		"usr/bin/env":                     {link: "/bin/busybox"},
		"etc/passwd":                      {mode: 0o644, body: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		"etc/group":                       {mode: 0o644, body: []byte("root:x:0:\nnogroup:x:65534:\n")},
		"usr/share/nginx/html/index.html": {mode: 0o644, body: []byte("<title>It works</title>\n")},
		"root":                            {dir: true, mode: 0o700},
		"tmp":                             {dir: true, mode: 0o1777},
	}
	for _, dir := range []string{"dev", "home", "mnt", "proc", "run", "sbin", "sys", "usr/sbin", "var/tmp"} {
		files[dir] = file{dir: true, mode: 0o755}
	}
	for applet := range strings.FieldsSeq(applets) {
		if applet != "busybox" {
			files["bin/"+applet] = file{link: "busybox"}
		}
	}
	return layer(files)
}
