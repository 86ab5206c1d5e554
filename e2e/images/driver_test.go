package images

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func stateDir() string {
	return cmp.Or(os.Getenv("CINDER_E2E_DIR"), "/var/tmp/cinder-csi-e2e")
}

// built returns an image of the driver, built where the cluster's are, so that
// it is there already after the first time.
func built(t *testing.T, target string) v1.Image {
	t.Helper()
	b := &Builder{Dir: stateDir(), Source: source(t), Log: os.Stderr}
	image := b.driver(target)
	if _, err := b.Build(t.Context(), []Image{image}); err != nil {
		t.Fatal(err)
	}
	content, err := tarball.ImageFromPath(filepath.Join(b.archives(), image.File), nil)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// builtFor returns an image of the driver for an architecture.
func builtFor(t *testing.T, target, arch string) v1.Image {
	t.Helper()
	b := &Builder{Dir: stateDir(), Source: source(t), Log: os.Stderr}
	tag := "localhost/cinder-csi-" + target + "-" + arch + ":e2e"
	if _, err := b.dockerfile(t.Context(), target, arch, tag); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), target+".tar")
	if _, err := b.buildah(t.Context(), "push", "--quiet", tag, "docker-archive:"+archive); err != nil {
		t.Fatal(err)
	}
	content, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// rootOf makes the root of an image and returns it with the paths of all files.
func rootOf(t *testing.T, image v1.Image) (root string, files []string) {
	t.Helper()
	root = t.TempDir()
	content := mutate.Extract(image)
	defer func() { _ = content.Close() }()
	archive := tar.NewReader(content)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return root, files
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, header.Name)
		switch header.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeReg:
			files = append(files, "/"+strings.TrimPrefix(header.Name, "/"))
			var body []byte
			if body, err = io.ReadAll(archive); err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, body, header.FileInfo().Mode()))
			}
		default:
			t.Fatalf("%s is neither a file nor a directory: a program may be reached by two names, of which a test sees one", header.Name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// in runs a program inside an image.
func in(ctx context.Context, root, path, stdin string, args ...string) (string, error) {
	cmd := inside(ctx, root, path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// inside is a program inside an image, with the kernel's filesystems as a container
// has them. The mounts go with the process.
func inside(ctx context.Context, root, path string, args ...string) *exec.Cmd {
	const script = `
		root=$1; shift
		mkdir -p "$root/dev" "$root/proc" "$root/sys"
		for node in null random urandom; do : >>"$root/dev/$node"; mount --bind /dev/$node "$root/dev/$node"; done
		mount --rbind /proc "$root/proc"
		mount --rbind /sys "$root/sys"
		exec env -i PATH="$PATH" LC_ALL=C DM_DISABLE_UDEV=1 chroot "$root" "$@"`
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "sh", "-euc", script, "sh", root}, args...)...)
	cmd.Env = []string{"PATH=" + path}
	return cmd
}

// work is what each program of the node is made to do: as much of what it is
// there for as can be done to a file, so that it loads all that it needs.
func work() map[string][]string {
	return map[string][]string{
		"mkfs.ext2":  {"mkfs.ext2 -q /ext2"},
		"mkfs.ext3":  {"mkfs.ext3 -q /ext3"},
		"mkfs.ext4":  {"mkfs.ext4 -q /ext4"},
		"e2fsck":     {"mkfs.ext4 -q /checked", "e2fsck -f -p /checked"},
		"resize2fs":  {"mkfs.ext4 -q /grown 100m", "e2fsck -f -p /grown", "resize2fs /grown"},
		"mkfs.xfs":   {"mkfs.xfs -q /xfs"},
		"mkfs.btrfs": {"mkfs.btrfs -q /btrfs"},
		"btrfs":      {"mkfs.btrfs -q /inspected", "btrfs inspect-internal dump-super /inspected"},
		"blkid":      {"mkfs.ext4 -q /probed", "blkid -p -o export /probed"},
		"wipefs":     {"mkfs.xfs -q /signed", "wipefs --no-act --json /signed"},
		"setsid":     {"setsid --wait blkid --version"},
		"mount":      {"mount --version"},
		"cryptsetup": {
			"cryptsetup luksFormat --batch-mode --type luks2 --pbkdf argon2id --pbkdf-memory 32768 --pbkdf-force-iterations 4 " +
				"--pbkdf-parallel 4 --key-file - --disable-locks /luks",
			"cryptsetup open --test-passphrase --key-file - --disable-locks /luks",
		},
	}
}

func TestEachProgramOfTheNodeImageDoesItsWork(t *testing.T) {
	eachDoesItsWork(t, built(t, "node"), machine{})
}

// TestTheNodeImageHasACryptsetupWithoutKnownFlaws: 2.8.1 is the first that refuses
// headers whose key slots or data have the null cipher. (The driver refuses them by
// itself too.)
func TestTheNodeImageHasACryptsetupWithoutKnownFlaws(t *testing.T) {
	root, _ := rootOf(t, built(t, "node"))
	said, err := in(t.Context(), root, "/usr/sbin:/usr/bin", "", "cryptsetup", "--version")
	if err != nil {
		t.Fatal(err)
	}
	var major, minor, patch int
	if _, err := fmt.Sscanf(said, "cryptsetup %d.%d.%d", &major, &minor, &patch); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if slices.Compare([]int{major, minor, patch}, []int{2, 8, 1}) < 0 {
		t.Errorf("it is %s", said)
	}
}

func eachDoesItsWork(t *testing.T, image v1.Image, m machine) {
	t.Helper()
	root, files := rootOf(t, image)
	m.enter(t, root)
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(config.Config.Env[0], "PATH=")
	place := map[string]string{} // of each program
	for _, file := range files {
		if dir, name := filepath.Split(file); slices.Contains(strings.Split(path, ":"), filepath.Clean(dir)) {
			place[name] = file
		}
	}
	for program, commands := range work() {
		t.Run(program, func(t *testing.T) {
			if place[program] == "" {
				t.Fatal("it is not in the image")
			}
			for _, command := range commands {
				args := strings.Fields(command)
				disk(t, root, args[len(args)-1])
				if _, err := in(t.Context(), root, path, "passphrase", m.command(place, args)...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	t.Run("and there is work for each", func(t *testing.T) {
		for name, file := range place {
			if name != "cinder-csi-plugin" && work()[name] == nil {
				t.Errorf("nothing is known about %s", file)
			}
		}
	})
}

// disk makes a file of the size of a small disk, unless it is there.
func disk(t *testing.T, root, name string) {
	t.Helper()
	path := filepath.Join(root, name)
	if _, err := os.Lstat(path); !strings.HasPrefix(name, "/") || err == nil {
		return
	}
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 400<<20)); err != nil {
		t.Fatal(err)
	}
}

func TestNothingSpareIsInTheImages(t *testing.T) {
	for _, target := range []string{"controller", "node", "combined"} {
		t.Run(target, func(t *testing.T) { nothingSpare(t, built(t, target), target, machine{arch: runtime.GOARCH}) })
	}
}

func nothingSpare(t *testing.T, image v1.Image, target string, m machine) {
	t.Helper()
	forNodes := regexp.MustCompile(`^/(bin/cinder-csi-plugin|etc/ssl/certs/ca-certificates\.crt|etc/mke2fs\.conf|` +
		`usr/s?bin/[a-z0-9.]+|(usr/)?lib(64)?/[^ ]+\.so[.0-9]*|var/lib/dpkg/status\.d/[^/]+|usr/share/doc/[^/]+/copyright)$`)
	allowed := map[string]*regexp.Regexp{
		"node": forNodes, "combined": forNodes,
		"controller": regexp.MustCompile(`^/(bin/cinder-csi-plugin|etc/ssl/certs/ca-certificates\.crt|` +
			`var/lib/dpkg/status\.d/ca-certificates|usr/share/doc/ca-certificates/copyright)$`),
	}
	root, files := rootOf(t, image)
	for _, file := range files {
		if !allowed[target].MatchString(file) {
			t.Errorf("%s is there for nothing", file)
		}
		if program, err := elf.Open(filepath.Join(root, file)); err == nil {
			if program.Machine != m.machine() {
				t.Errorf("%s is for %v", file, program.Machine)
			}
			if libraries, err := program.ImportedLibraries(); strings.HasSuffix(file, "-plugin") && (err != nil || len(libraries) > 0) {
				t.Errorf("%s is not static: %q, %v", file, libraries, err)
			}
			_ = program.Close()
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if user := config.Config.User; target == "controller" && user != "65532:65532" {
		t.Errorf("it runs as %q", user)
	}
	if config.Architecture != m.arch {
		t.Errorf("it says that it is for %q", config.Architecture)
	}
	authorities, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(authorities, []byte("BEGIN CERTIFICATE")); n < 100 || !x509.NewCertPool().AppendCertsFromPEM(authorities) {
		t.Errorf("it has %d certificates of authorities", n)
	}
	m.enter(t, root)
	out, err := in(t.Context(), root, "/usr/sbin:/usr/bin", "", m.command(nil, append(config.Config.Entrypoint, "--version"))...)
	if err != nil || strings.TrimSpace(out) != "cinder-csi-plugin e2e" {
		t.Errorf("--version says %q, %v", out, err)
	}
}
