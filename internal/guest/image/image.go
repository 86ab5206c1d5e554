// Package image builds what a guest boots from: the newest cloud kernel of
// Debian's archive and an initramfs with udev and the node plugin's tools as
// they are installed on this machine. The kernel is kept in the user's cache
// directory, so that only the first run needs the network.
package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Image is what a guest boots from.
type Image struct {
	// Kernel is the path of the kernel.
	Kernel string
	// Release is the kernel's release, as uname tells it.
	Release string
	// Initramfs is a file without a name: nothing is left when it is closed,
	// or when this process dies.
	Initramfs *os.File
}

// initPath is the program that the kernel starts, and home of its process.
const initPath = "/init"

// Extra is what an image holds besides udev and the node's tools.
type Extra struct {
	// Files are paths on this machine, by the paths that they get in the guest.
	Files map[string]string
	// Programs are names of programs of this machine. The libraries that they
	// are linked with come along.
	Programs []string
}

// Build makes an image whose first process is the program, a static one. Only
// amd64 is supported.
func Build(ctx context.Context, program string, extras ...Extra) (*Image, error) {
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("guest image: the kernel and QEMU are those of amd64, and this machine is %s", runtime.GOARCH)
	}
	k, err := findKernel(ctx)
	if err != nil {
		return nil, fmt.Errorf("guest image: kernel: %w", err)
	}
	f, err := Unnamed()
	if err != nil {
		return nil, fmt.Errorf("guest image: %w", err)
	}
	if err := writeInitramfs(ctx, f, k, program, extras); err != nil {
		return nil, errors.Join(fmt.Errorf("guest image: %w", err), f.Close())
	}
	return &Image{Kernel: k.image(), Release: k.release, Initramfs: f}, nil
}

// Unnamed makes a file that has no name. Others open it by the path that
// PathOf returns.
func Unnamed() (*os.File, error) {
	f, err := os.CreateTemp("", "cinder-csi-guest-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// PathOf returns the path by which other processes can open a file that this
// one has open.
func PathOf(f *os.File) string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}

// writeInitramfs writes an archive of everything that the guest needs.
func writeInitramfs(ctx context.Context, f *os.File, k kernel, program string, extras []Extra) error {
	w := bufio.NewWriterSize(f, 1<<20)
	a := newArchive(w)
	for _, add := range []func() error{
		func() error { return addLayout(a) },
		func() error { return addModules(ctx, a, k) },
		func() error { return addUdev(a) },
		func() error { return addTools(ctx, a) },
		func() error { return a.copy(program, initPath) },
		func() error { return addExtras(ctx, a, extras) },
		a.close,
		w.Flush,
	} {
		if err := add(); err != nil {
			return err
		}
	}
	return nil
}

// addExtras adds what this image in particular is to hold.
func addExtras(ctx context.Context, a *archive, extras []Extra) error {
	for _, extra := range extras {
		for name, path := range extra.Files {
			if err := a.copy(path, name); err != nil {
				return err
			}
		}
		var paths []string
		for _, name := range extra.Programs {
			path, err := lookUp(name)
			if err != nil {
				return err
			}
			paths = append(paths, path)
		}
		if err := addPrograms(ctx, a, paths); err != nil {
			return err
		}
	}
	return nil
}

// addLayout adds the directories, links and settings of a system whose /usr is
// merged, as Debian's is.
func addLayout(a *archive) error {
	for _, dir := range []string{
		"/boot", "/dev", "/etc/udev", "/proc", "/run", "/sys", "/tmp", "/var/lib/kubelet",
		"/usr/bin", "/usr/lib", "/usr/lib64", "/usr/sbin",
	} {
		if err := a.dir(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{"bin", "lib", "lib64", "sbin"} {
		if err := a.link("/"+dir, "usr/"+dir); err != nil {
			return err
		}
	}
	if err := a.link("/etc/mtab", "../proc/self/mounts"); err != nil {
		return err
	}
	for _, path := range []string{"/etc/passwd", "/etc/group", "/etc/mke2fs.conf"} {
		if err := a.copy(path, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// addUdev adds udev with the rules for disks; those for device-mapper come from
// the dmsetup package and udev alike.
func addUdev(a *archive) error {
	const dir = "/usr/lib/udev/rules.d"
	for _, pattern := range []string{
		"50-udev-default", "55-dm", "60-block", "60-cdrom_id", "60-persistent-storage", "60-persistent-storage-dm",
		"60-serial", "64-btrfs*", "80-drivers", "95-dm-notify",
	} {
		found, err := filepath.Glob(filepath.Join(dir, pattern+".rules"))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := a.copy(path, path); err != nil {
				return err
			}
		}
	}
	return a.link("/usr/lib/systemd/systemd-udevd", "../../bin/udevadm")
}
