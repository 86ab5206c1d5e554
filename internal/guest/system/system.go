// Package system makes a guest ready as an init does, before anything else can
// run: the kernel's filesystems, modules, udev.
package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Start does what an init does first, as process 1, in an image of package
// image. When it returns, all disks that are there have their names.
func Start() error {
	for _, m := range []struct{ source, target, fsType string }{
		{"proc", "/proc", "proc"},
		{"sysfs", "/sys", "sysfs"},
		{"devtmpfs", "/dev", "devtmpfs"},
		{"tmpfs", "/run", "tmpfs"},
		{"tmpfs", "/tmp", "tmpfs"},
	} {
		if err := unix.Mount(m.source, m.target, m.fsType, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for name, value := range map[string]string{"PATH": "/usr/sbin:/usr/bin", "HOME": "/", "TMPDIR": "/tmp"} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	for _, command := range [][]string{
		{"modprobe", "-a", "virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "virtio_scsi", "sd_mod", "sr_mod", "ata_piix"},
		{"/usr/lib/systemd/systemd-udevd", "--daemon"},
		{"udevadm", "trigger", "--type=subsystems", "--action=add"},
		{"udevadm", "trigger", "--type=devices", "--action=add"},
		{"udevadm", "settle", "--timeout=60"},
	} {
		if err := execute(command); err != nil {
			return err
		}
	}
	return nil
}

// execute runs a program with its output on the console.
func execute(command []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", cmd, err)
	}
	return nil
}

// OpenPort opens the virtio serial port of a name.
func OpenPort(port string) (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(string(data)) == port {
			return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(name))), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("the machine has no port %s", port)
}
