package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// metapackage depends on the newest cloud kernel.
const metapackage = "linux-image-cloud-amd64"

// kernel is an unpacked kernel package: dir holds boot and lib/modules.
type kernel struct {
	dir     string
	release string
}

func (k kernel) image() string {
	return filepath.Join(k.dir, "boot", "vmlinuz-"+k.release)
}

// CacheDir returns the directory where kernels are kept.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "cinder-csi-guest"), nil
}

// findKernel returns the newest kernel that apt knows of, from the cache where
// it is there. Without any word from apt the newest in the cache will do.
func findKernel(ctx context.Context) (kernel, error) {
	cache, err := CacheDir()
	if err != nil {
		return kernel{}, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil { // #nosec G301 -- holds nothing secret
		return kernel{}, err
	}
	unlock, err := lockDir(cache)
	if err != nil {
		return kernel{}, err
	}
	defer unlock()
	name, version, err := newestPackage(ctx)
	if err != nil {
		if k, ok := newestCached(cache); ok {
			return k, nil
		}
		return kernel{}, err
	}
	dir := filepath.Join(cache, name+"_"+strings.ReplaceAll(version, ":", "%3a"))
	if _, err := os.Stat(dir); err == nil {
		return open(dir)
	}
	if err := fetch(ctx, cache, dir, name+"="+version); err != nil {
		return kernel{}, err
	}
	if err := prune(cache, dir); err != nil {
		return kernel{}, err
	}
	return open(dir)
}

// prune removes all other kernels, and what is left of downloads that were
// interrupted.
func prune(cache, keep string) error {
	for _, pattern := range []string{"linux-image-*", "new-*"} {
		dirs, err := filepath.Glob(filepath.Join(cache, pattern))
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			if dir == keep {
				continue
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// lockDir keeps other processes from downloading the same at the same time.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// newestPackage asks apt for the kernel's package, and refreshes apt's lists if
// it doesn't know.
func newestPackage(ctx context.Context) (name, version string, err error) {
	if name, version, err = askApt(ctx); err == nil {
		return name, version, nil
	}
	if _, err := output(ctx, "apt-get", "update"); err != nil {
		return "", "", err
	}
	return askApt(ctx)
}

func askApt(ctx context.Context) (name, version string, err error) {
	depends, err := output(ctx, "apt-cache", "-o", "APT::Cache::AllVersions=0", "depends", metapackage)
	if err != nil {
		return "", "", err
	}
	found := regexp.MustCompile(`Depends: (linux-image-[^\s|]*-cloud-amd64)`).FindStringSubmatch(depends)
	if found == nil {
		return "", "", fmt.Errorf("apt knows no %s: the guest needs the archive of Debian", metapackage)
	}
	show, err := output(ctx, "apt-cache", "-o", "APT::Cache::AllVersions=0", "show", found[1])
	if err != nil {
		return "", "", err
	}
	line := regexp.MustCompile(`(?m)^Version: (\S+)$`).FindStringSubmatch(show)
	if line == nil {
		return "", "", fmt.Errorf("apt knows no version of %s", found[1])
	}
	return found[1], line[1], nil
}

// newestCached returns the kernel that was unpacked last.
func newestCached(cache string) (kernel, bool) {
	dirs, err := filepath.Glob(filepath.Join(cache, "linux-image-*"))
	if err != nil {
		return kernel{}, false
	}
	slices.SortFunc(dirs, func(a, b string) int { return changed(b).Compare(changed(a)) })
	for _, dir := range dirs {
		if k, err := open(dir); err == nil {
			return k, true
		}
	}
	return kernel{}, false
}

// open returns the kernel in a directory of the cache.
func open(dir string) (kernel, error) {
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil {
		return kernel{}, err
	}
	if len(images) != 1 {
		return kernel{}, fmt.Errorf("%s holds %d kernels, want one: remove the directory", dir, len(images))
	}
	return kernel{dir: dir, release: strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")}, nil
}

// fetch downloads a package and unpacks it into dir, which is then complete.
func fetch(ctx context.Context, cache, dir, pkg string) (err error) {
	work, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	// apt's own user can't write into root's cache.
	download := exec.CommandContext(ctx, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", pkg)
	download.Dir = work
	if out, err := download.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", download, err, out)
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt-get download %s has left %d packages, want one", pkg, len(debs))
	}
	root := filepath.Join(work, "root")
	if err := unpack(ctx, debs[0], root); err != nil {
		return err
	}
	k, err := open(root)
	if err != nil {
		return err
	}
	if _, err := output(ctx, "depmod", "-b", root, k.release); err != nil {
		return err
	}
	return os.Rename(root, dir)
}

// unpack extracts the kernel and its modules from a package.
func unpack(ctx context.Context, deb, root string) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := extract(tar.NewReader(out), root); err != nil {
		return errors.Join(fmt.Errorf("unpack %s: %w", deb, err), cmd.Process.Kill(), cmd.Wait())
	}
	return cmd.Wait()
}

func extract(files *tar.Reader, root string) error {
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/usr")
		wanted := strings.HasPrefix(name, "/boot/vmlinuz-") || strings.HasPrefix(name, "/lib/modules/")
		if h.Typeflag != tar.TypeReg || !wanted {
			continue
		}
		if err := save(files, filepath.Join(root, filepath.FromSlash(name))); err != nil {
			return err
		}
	}
}

func save(content io.Reader, name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { // #nosec G301 -- holds nothing secret
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
