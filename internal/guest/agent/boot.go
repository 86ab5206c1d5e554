package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// BootDisk is the label of the filesystem on the disk that the machine has
	// from the start, which is mounted read-only at /boot.
	BootDisk = "boot"
	// Address is the guest's own, in the network where the metadata service is.
	Address = "169.254.169.15"
)

// boot does what an init does before anything else can run.
func boot() error {
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
	if err := unix.Mount("/dev/disk/by-label/"+BootDisk, "/boot", "ext4", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount the boot disk: %w", err)
	}
	return network()
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

// network brings the loopback and the first network card up.
func network() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	for card, address := range map[string]string{"lo": "127.0.0.1/8", "eth0": Address + "/24"} {
		if err := bringUp(fd, card, netip.MustParsePrefix(address)); err != nil {
			return fmt.Errorf("network card %s: %w", card, err)
		}
	}
	return nil
}

func bringUp(fd int, card string, address netip.Prefix) error {
	request, err := unix.NewIfreq(card)
	if err != nil {
		return err
	}
	ip := address.Addr().As4()
	mask := [4]byte{255, 255, 255, 0}
	if address.Bits() == 8 {
		mask = [4]byte{255, 0, 0, 0}
	}
	err = errors.Join(
		request.SetInet4Addr(ip[:]), unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request),
		request.SetInet4Addr(mask[:]), unix.IoctlIfreq(fd, unix.SIOCSIFNETMASK, request),
	)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
