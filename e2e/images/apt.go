package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// suite is the Debian that the Dockerfile's bases are.
const suite = "bookworm"

// apt is how packages are got.
type apt struct {
	sources string // sources.list
	proxy   string // for apt.conf; empty where there is none
}

// hostApt gets packages as this machine does: through its proxy, and, where it is
// the same Debian, from its mirrors. The Dockerfile knows nothing of either.
func hostApt(ctx context.Context) (apt, error) {
	proxy, err := run(ctx, "", "apt-config", "dump", "--no-empty", "Acquire::http::Proxy")
	if err != nil {
		return apt{}, err
	}
	targets, err := run(ctx, "", "apt-get", "indextargets", "--format", "$(CREATED_BY) $(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)")
	if err != nil {
		return apt{}, err
	}
	return apt{sources: mirrors(targets), proxy: strings.TrimSpace(proxy)}, nil
}

// mirrors makes a sources.list of the index targets of a machine: Debian's own
// mirrors where there is one for the suite and one for its security updates.
func mirrors(targets string) string {
	var lines []string
	var whole, security bool
	for target := range strings.Lines(targets) {
		line, ok := strings.CutPrefix(strings.TrimSpace(target), "Packages Debian ")
		fields := strings.Fields(line)
		if !ok || len(fields) != 4 || fields[3] != "main" || !strings.HasPrefix(fields[1], "http://") {
			continue // https needs certificates, which a small Debian doesn't have
		}
		switch fields[2] {
		case suite:
			whole = true
		case suite + "-security":
			security = true
		case suite + "-updates":
		default:
			continue
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if !whole || !security {
		lines = []string{
			"deb http://deb.debian.org/debian " + suite + " main",
			"deb http://deb.debian.org/debian " + suite + "-updates main",
			"deb http://deb.debian.org/debian-security " + suite + "-security main",
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// deb returns the path of a package of the machine's own distribution.
func (b *Builder) deb(ctx context.Context, name string) (string, error) {
	dir := b.keep("packages", name)
	pattern := filepath.Join(dir, name+"_*.deb")
	found, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- nothing secret
			return "", err
		}
		// apt-get gives up its rights to download, which the directory doesn't allow.
		if _, err := run(ctx, dir, "apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name); err != nil {
			return "", err
		}
		if found, err = filepath.Glob(pattern); err != nil {
			return "", err
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("apt-get download %s left %q in %s", name, found, dir)
	}
	return found[0], nil
}

// unpack unpacks packages over each other and returns the directory.
func (b *Builder) unpack(ctx context.Context, debs ...string) (root string, err error) {
	root = b.keep("packages", fingerprint(debs...)[:16])
	if err := os.MkdirAll(root, 0o755); err != nil { // #nosec G301 -- nothing secret
		return "", err
	}
	for _, deb := range debs {
		if _, err := run(ctx, "", "dpkg-deb", "--extract", deb, root); err != nil {
			return "", err
		}
	}
	return root, nil
}
