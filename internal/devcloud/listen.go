package devcloud

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// classNet is where the kernel shows its network interfaces.
const classNet = "/sys/class/net"

// checkListen refuses an address that anybody off this machine could reach:
// whoever reaches this cloud owns the machine's disks. Besides loopback it
// accepts the private address of a bridge without uplink, which is how network
// namespaces on this machine reach it.
func checkListen(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("listen address %q: %w", address, err)
	}
	ip := net.ParseIP(host)
	if host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	if ip == nil || !ip.IsPrivate() {
		return fmt.Errorf("listen address %q is not on loopback: whoever reaches this cloud owns the machine's disks", address)
	}
	if err := onInnerBridge(ip); err != nil {
		return fmt.Errorf("listen address %q is neither on loopback nor that of a bridge without uplink (%w): "+
			"whoever reaches this cloud owns the machine's disks", address, err)
	}
	return nil
}

// onInnerBridge returns nil when the address belongs to a bridge whose ports are
// all virtual.
func onInnerBridge(ip net.IP) error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			return err
		}
		for _, a := range addresses {
			if prefix, ok := a.(*net.IPNet); ok && prefix.IP.Equal(ip) {
				return innerBridge(classNet, i.Name)
			}
		}
	}
	return errors.New("no interface has it")
}

// innerBridge returns nil when the interface is a bridge and none of its ports
// is a device that leads out of this machine, or may: only those made in pairs
// (veth) and for virtual machines (tap) are known not to.
func innerBridge(classNet, name string) error {
	ports, err := os.ReadDir(filepath.Join(classNet, name, "brif"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is no bridge", name)
	}
	if err != nil {
		return err
	}
	for _, port := range ports {
		dir := filepath.Join(classNet, port.Name())
		if _, err := os.Stat(filepath.Join(dir, "device")); err == nil {
			return fmt.Errorf("port %s of %s is a network card", port.Name(), name)
		}
		lower, err := filepath.Glob(filepath.Join(dir, "lower_*"))
		if err != nil {
			return err
		}
		if len(lower) > 0 {
			return fmt.Errorf("port %s of %s lies on %s", port.Name(), name, filepath.Base(lower[0])[len("lower_"):])
		}
	}
	return nil
}
