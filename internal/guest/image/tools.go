package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// tools are the programs in the guest, each with the Debian package it is from:
// udev and kmod, and what the node plugin runs. There is no shell.
func tools() map[string]string {
	return map[string]string{
		"udevadm": "udev", "kmod": "kmod", "dmsetup": "dmsetup",
		"mkfs.ext2": "e2fsprogs", "mkfs.ext3": "e2fsprogs", "mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs", "resize2fs": "e2fsprogs",
		"mkfs.xfs": "xfsprogs", "xfs_growfs": "xfsprogs", "xfs_repair": "xfsprogs",
		"mkfs.btrfs": "btrfs-progs", "btrfs": "btrfs-progs",
		"blkid": "util-linux", "wipefs": "util-linux", "setsid": "util-linux", "mkswap": "util-linux",
		"mount": "mount", "umount": "mount", "swapon": "mount", "swapoff": "mount", "cryptsetup": "cryptsetup-bin",
	}
}

// helpers are the programs that udev's rules run.
func helpers() []string {
	return []string{"/usr/lib/udev/ata_id", "/usr/lib/udev/cdrom_id", "/usr/lib/udev/scsi_id"}
}

// addTools adds the programs of the node, with what they need.
func addTools(ctx context.Context, a *archive) error {
	paths := helpers()
	for name, pkg := range tools() {
		path, err := lookUp(name)
		if err != nil {
			return fmt.Errorf("%w: install the package %s", err, pkg)
		}
		paths = append(paths, path)
	}
	if err := addPrograms(ctx, a, paths); err != nil {
		return err
	}
	if err := a.link("/usr/sbin/modprobe", "../bin/kmod"); err != nil {
		return err
	}
	// Settings of mkfs.xfs for older kernels.
	if err := a.tree("", "/usr/share/xfsprogs"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// addPrograms adds programs and the libraries that they are linked with.
func addPrograms(ctx context.Context, a *archive, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	for _, path := range paths {
		if err := a.copy(path, merged(path)); err != nil {
			return err
		}
	}
	listing, err := output(ctx, "ldd", paths...)
	if err != nil {
		return err
	}
	for _, path := range regexp.MustCompile(`(?m)^\s+(?:\S+ => )?(/\S+) \(0x`).FindAllStringSubmatch(listing, -1) {
		if err := a.copy(path[1], merged(path[1])); err != nil {
			return err
		}
	}
	return nil
}

// lookUp finds a program where root's are, whatever PATH says.
func lookUp(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

// merged returns where a file is in a system whose /usr is merged.
func merged(path string) string {
	if strings.HasPrefix(path, "/usr/") {
		return path
	}
	return "/usr" + path
}

// output runs a program and returns what it writes to its standard output.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// changed returns when a file was last changed; the zero time if there is none.
func changed(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
