package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/supervisor"
)

// hypervisors are the hosts of guests: one in each zone, with a libvirt each.
func hypervisors() []string { return []string{"qemu1", "qemu2"} }

// belongings are the folders that libvirt has for itself on each host, by where
// it looks for them.
func belongings() map[string]string {
	return map[string]string{
		"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt", "log": "/var/log/libvirt", "run": "/run/libvirt",
	}
}

// ports is where a host has the sockets of its guests' serial ports.
func (s *Stack) ports(host string) string { return s.path("hosts/" + host + "/lib/qemu") }

// Reach is the folder with the sockets by which guests are reached.
func (s *Stack) Reach() string { return s.path("run/guests") }

// Host runs a program on one of the hosts, in place of this process.
func (s *Stack) Host(host, program string, args ...string) error {
	var mounts []supervisor.Mount
	for name, target := range belongings() {
		mounts = append(mounts, supervisor.Bind(s.path("hosts/"+host+"/"+name), target))
	}
	return supervisor.Become(host, mounts, program, args...)
}

// launchHypervisor starts a host's libvirt, and waits for it: a compute that
// misses it reports itself as disabled.
func (s *Stack) launchHypervisor(ctx context.Context, host string) error {
	self := s.path(copied)
	err := s.launch(ctx, "libvirtd-"+host, nil, self, "host", host, "libvirtd", "--pid-file", "/run/libvirt/libvirtd.pid")
	if err != nil {
		return err
	}
	socket := s.path("hosts/" + host + "/run/libvirt-sock")
	return s.wait(ctx, "libvirt on "+host, 30*time.Second, func(ctx context.Context) error {
		c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return c.Close()
	}, "libvirtd-"+host)
}

// launchHosts starts the hosts of guests, and what reaches into the guests.
func (s *Stack) launchHosts(ctx context.Context) error {
	if err := s.hostFolders(); err != nil {
		return err
	}
	if err := s.launch(ctx, "forward", nil, s.path(copied), "forward"); err != nil {
		return err
	}
	var hosts []func() error
	for _, host := range hypervisors() {
		hosts = append(hosts, func() error {
			if err := s.launchHypervisor(ctx, host); err != nil {
				return err
			}
			return s.launchCompute(ctx, host)
		})
	}
	return together(hosts...)
}

func (s *Stack) launchCompute(ctx context.Context, host string) error {
	return s.launchDaemon(ctx, "nova-compute-"+host, "nova-compute", "nova/nova.conf", "nova/"+host+".conf")
}

// hostFolders makes what the hosts have for themselves.
func (s *Stack) hostFolders() error {
	var errs []error
	for _, host := range hypervisors() {
		for _, file := range []string{"libvirtd.conf", "qemu.conf"} {
			text, err := files.ReadFile(filepath.Join("conf/libvirt", file))
			errs = append(errs, err, s.write("hosts/"+host+"/etc/"+file, string(text), 0o600))
		}
		for name := range belongings() {
			errs = append(errs, s.folder("hosts/"+host+"/"+name))
		}
		errs = append(errs, s.folder("state/nova/"+host+"/instances"), s.folder("state/nova/mnt/"+host))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("folders of the hosts: %w", err)
	}
	return nil
}
