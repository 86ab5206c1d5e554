package images

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// module is where programs that go into images are built.
type module struct {
	dir     string   // below e2e
	ldflags string   // for the linker
	sources []string // what decides, with the version of Go, what comes out
}

// program is a static program of a Go module.
type program struct {
	module
	pkg string
}

func (p program) name() string { return path.Base(p.pkg) }

// tools is a module that only names the versions of programs of others.
func tools(dir, ldflags string) module {
	return module{"tools/" + dir, ldflags, []string{"go.mod", "go.sum"}}
}

func pauseProgram() program {
	return program{module{".", "-s -w", []string{"images/pause/main.go"}}, "./images/pause"}
}

func sidecarProgram() program {
	return program{module{".", "-s -w", []string{"images/sidecar/main.go", "go.mod", "go.sum"}}, "./images/sidecar"}
}

func agnhostProgram() program {
	const (
		kubernetes = "v1.36.3"
		component  = "k8s.io/component-base/version"
	)
	return program{tools("kube", "-s -w -X "+component+".gitVersion="+kubernetes+" -X "+component+".gitMajor=1 -X "+component+".gitMinor=36"+
		" -X "+component+".gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion="+kubernetes), "k8s.io/kubernetes/test/images/agnhost"}
}

// Each set of programs has a module of its own, since each wants other versions
// of Kubernetes' libraries. The flags are those that the cluster's own programs
// are built with, for the sake of the build cache.
func sidecarPrograms() []program {
	sidecars, provisioner := tools("sidecars", "-s -w"), tools("provisioner", "-s -w")
	return []program{
		{provisioner, "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner"},
		{sidecars, "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher"},
		{sidecars, "github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer"},
		{sidecars, "github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter"},
		{sidecars, "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller"},
	}
}

// build builds the program, unless it is there and nothing has changed.
func (b *Builder) program(ctx context.Context, p program) ([]byte, error) {
	out := filepath.Join(b.bin(), p.name())
	cmd := exec.CommandContext(ctx, "go", "build", "-p", "2", "-trimpath", "-ldflags", p.ldflags, "-o", out, p.pkg)
	cmd.Dir = filepath.Join(b.Source, "e2e", p.dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	b.say("building %s", p.name())
	if output, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s in %s: %w\n%s", p.pkg, cmd.Dir, err, output)
	}
	return os.ReadFile(out)
}

// version is what a program is made of.
func (b *Builder) version(ctx context.Context, p program) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "version")
	cmd.Dir = filepath.Join(b.Source, "e2e", p.dir)
	goVersion, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go version: %w", err)
	}
	version := []string{string(goVersion), p.pkg, p.ldflags}
	for _, name := range p.sources {
		text, err := os.ReadFile(filepath.Join(cmd.Dir, name))
		if err != nil {
			return "", err
		}
		version = append(version, string(text))
	}
	return strings.Join(version, "\n"), nil
}

// static is an image of nothing but a program, which doesn't run as root.
func (b *Builder) static(p program, user string, tags ...string) Image {
	return Image{
		File:  p.name() + ".tar",
		Tags:  tags,
		input: func(ctx context.Context) (string, error) { return b.version(ctx, p) },
		write: archive(tags, func(ctx context.Context) (v1.Image, error) {
			body, err := b.program(ctx, p)
			if err != nil {
				return nil, err
			}
			content, err := layer(map[string]file{p.name(): {mode: 0o755, body: body}})
			if err != nil {
				return nil, err
			}
			return assemble(v1.Config{Entrypoint: []string{"/" + p.name()}, User: user, WorkingDir: "/"}, content)
		}),
	}
}
