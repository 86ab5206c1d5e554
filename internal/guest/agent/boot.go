package agent

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/guest/system"
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
	if err := system.Start(); err != nil {
		return err
	}
	if err := unix.Mount("/dev/disk/by-label/"+BootDisk, "/boot", "ext4", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount the boot disk: %w", err)
	}
	return network()
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
