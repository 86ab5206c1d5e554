package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// build is one run of the Go compiler.
type build struct {
	title    string
	dir      string // module, below the checkout
	packages []string
	ldflags  string
	output   string // file, or directory that ends in "/"
	test     bool   // go test -c
	pinned   bool   // nothing of it is in this checkout but its go.mod
	names    []string
}

// made reports whether the programs are there.
func (b build) made() bool {
	for _, name := range b.names {
		if !exists(filepath.Join(filepath.Dir(b.output), name)) {
			return false
		}
	}
	return true
}

// stamp is what the outcome of a build depends on, for a pinned one.
func (b build) stamp(ctx context.Context, source string) ([]byte, error) {
	stamp, err := output(b.command(ctx, source, "version"))
	for _, file := range []string{"go.mod", "go.sum"} {
		data, failed := os.ReadFile(filepath.Join(source, b.dir, file))
		stamp, err = append(stamp, data...), errors.Join(err, failed)
	}
	return fmt.Appendln(stamp, b.ldflags, b.packages), err
}

// buildAll builds what the cluster runs, and what tests it if suite is set.
func (p Paths) buildAll(ctx context.Context, progress *Progress, source string, suite bool) error {
	if err := os.MkdirAll(p.Bin(""), 0o755); err != nil { // #nosec G301 -- programs are for everyone
		return err
	}
	builds := p.programs()
	if suite {
		builds = append(builds, p.suite())
	}
	for _, b := range builds {
		if err := p.ensureBuilt(ctx, progress, source, b); err != nil {
			return fmt.Errorf("build %s: %w", b.title, err)
		}
	}
	return nil
}

// ensureBuilt builds what was not built from the same versions already. To find
// out that nothing changed takes the compiler 10 s for pinned modules, which
// only change with their go.sum; our own code may always have changed.
func (p Paths) ensureBuilt(ctx context.Context, progress *Progress, source string, b build) error {
	stamp, err := b.stamp(ctx, source)
	if err != nil {
		return err
	}
	mark := filepath.Join(p.Dir, "build", "programs", strings.ReplaceAll(b.title, " ", "-"))
	if old, err := os.ReadFile(mark); err == nil && b.pinned && bytes.Equal(old, stamp) && b.made() {
		return nil
	}
	if err := b.run(ctx, progress, source); err != nil {
		return err
	}
	return writeFile(mark, stamp, 0o644)
}

// run builds, and shows how many of the packages that aren't in the build cache
// are done.
func (b build) run(ctx context.Context, progress *Progress, source string) error {
	stale, err := b.stale(ctx, source)
	if err != nil {
		return err
	}
	args := []string{"build"}
	if b.test {
		args = []string{"test", "-c"}
	}
	args = append(args, "-v", "-trimpath", "-ldflags", b.ldflags, "-o", b.output)
	cmd := b.command(ctx, source, append(args, b.packages...)...)
	names, pipe := io.Pipe()
	cmd.Stderr = pipe
	complaints := make(chan string, 1)
	go func() { complaints <- b.follow(progress, names, stale) }()
	err = cmd.Run()
	_ = pipe.Close() // an io.Pipe's never fails
	if said := <-complaints; err != nil {
		return fmt.Errorf("%w: %s", err, tail(said))
	}
	if len(stale) > 0 {
		progress.Step("built %s (%d packages)", b.title, len(stale))
	}
	return nil
}

// follow counts the packages that the compiler names, and returns what else it says.
func (b build) follow(progress *Progress, names io.Reader, stale map[string]bool) string {
	done := 0
	var rest strings.Builder
	for lines := bufio.NewScanner(names); lines.Scan(); {
		name := lines.Text()
		if !stale[name] {
			rest.WriteString(name + "\n")
			continue
		}
		done++
		progress.Update("building %s: %d of %d packages, %s", b.title, done, len(stale), name)
	}
	_, _ = io.Copy(&rest, names) // what a scanner finds too long
	return rest.String()
}

// stale returns the packages that the build cache doesn't have.
func (b build) stale(ctx context.Context, source string) (map[string]bool, error) {
	args := []string{"list", "-deps", "-trimpath", "-f", "{{if .Stale}}{{.ImportPath}}\t{{.StaleReason}}{{end}}"}
	if b.test {
		args = append(args, "-test")
	}
	out, err := output(b.command(ctx, source, append(args, b.packages...)...))
	if err != nil {
		return nil, err
	}
	stale := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		name, reason, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if name != "" && !strings.Contains(reason, "available in build cache") {
			name, _, _ = strings.Cut(name, " ") // "package [package.test]"
			stale[name] = true
		}
	}
	return stale, nil
}

func (b build) command(ctx context.Context, source string, args ...string) *exec.Cmd {
	cmd := command(ctx, "go", args...)
	cmd.Dir = filepath.Join(source, b.dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	return cmd
}
