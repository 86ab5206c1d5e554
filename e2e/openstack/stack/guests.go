package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/api"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest/forward"
)

// A server with a guest.
type server struct {
	name, zone string
	// properties are those of its image.
	properties map[string]string
}

// servers with a guest: their disks come on different buses, as clouds have them.
func guests() []server {
	return []server{
		{"guest1", "nova", map[string]string{"hw_disk_bus": "virtio"}},
		{"guest2", "az2", map[string]string{"hw_disk_bus": "scsi", "hw_scsi_model": "virtio-scsi"}},
	}
}

// Guest returns the guest in a server.
func (s *Stack) Guest(id string) *guest.Guest { return guest.New(s.Reach(), id) }

// Forward reaches into guests until the context ends.
func (s *Stack) Forward(ctx context.Context) error {
	f := &forward.Forwarder{Sockets: s.Reach(), Log: s.out}
	for _, host := range hypervisors() {
		f.Ports = append(f.Ports, s.ports(host))
	}
	return f.Run(ctx)
}

// Guests boots the servers that have a guest, which is a node: udev, the node's
// tools and the node plugin as it is in this checkout. It is not part of Up,
// since much can be tried without a guest; make openstack-up does both. Guests of another build are replaced.
func (s *Stack) Guests(ctx context.Context) error {
	cloud, err := Load(s.dir)
	if err != nil {
		return err
	}
	s.secret = cloud.Admin.Password
	seed := &seeder{stack: s, cloud: *cloud}
	if seed.admin, err = api.Login(ctx, identity, cloud.Admin); err != nil {
		return err
	}
	if seed.member, err = api.Login(ctx, identity, cloud.Member); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(s.out, "guests for the OpenStack in %s\n      at      took  what\n", s.dir)
	var made *build
	err = together(
		func() error { return s.step("hypervisors", func() error { return seed.hypervisors(ctx) }) },
		func() error {
			return s.step("the guests' programs", func() (err error) {
				made, err = s.build(ctx)
				return err
			})
		},
	)
	defer made.remove()
	if err != nil {
		return fmt.Errorf("%w\nThe logs are in %s", err, s.path("log"))
	}
	if seed.cloud.GuestBuild != made.hash || s.reach(ctx, cloud.Guests, 30*time.Second) != nil {
		if err := seed.guests(ctx, made); err != nil {
			return fmt.Errorf("%w\nThe logs are in %s", err, s.path("log"))
		}
	}
	_, err = fmt.Fprintf(s.out, "ready: %d guests, the sockets of their node plugins in %s\n", len(seed.cloud.Guests), s.Reach())
	return err
}

// reach waits until guests can be reached.
func (s *Stack) reach(ctx context.Context, guests map[string]string, patience time.Duration) error {
	if len(guests) == 0 {
		return errors.New("there are no guests")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not within %s", patience))
	defer cancel()
	var waits []func() error
	for _, id := range guests {
		waits = append(waits, func() error {
			err := s.Guest(id).Await(ctx)
			if err == nil {
				_, err = s.Guest(id).Exec(ctx, "true")
			}
			return err
		})
	}
	return together(waits...)
}

// hypervisors starts the hosts of guests and makes them known to the scheduler.
func (s *seeder) hypervisors(ctx context.Context) error {
	if err := s.stack.launchHosts(ctx); err != nil {
		return err
	}
	if s.schedulable(ctx) == nil {
		return nil
	}
	needs := []string{"nova-conductor", "nova-scheduler", "libvirtd-qemu1", "libvirtd-qemu2", "nova-compute-qemu1", "nova-compute-qemu2"}
	err := s.stack.wait(ctx, "the computes of guests", 2*time.Minute, func(ctx context.Context) error {
		hosts, err := s.up(ctx, "compute", "nova-compute")
		return errors.Join(err, missing("compute", hosts, hypervisors()))
	}, needs...)
	if err != nil {
		return err
	}
	err = s.stack.run(ctx, nil, "nova-manage", "--config-file", s.stack.path("conf/nova/nova.conf"), "cell_v2", "discover_hosts", "--by-service")
	if err != nil {
		return err
	}
	if err := s.join(ctx, "az2", "qemu2"); err != nil {
		return err
	}
	return s.stack.wait(ctx, "the hosts of guests", time.Minute, s.schedulable, needs...)
}

// schedulable asks Placement whether the hosts have room for a guest.
func (s *seeder) schedulable(ctx context.Context) error {
	url := fmt.Sprintf("%s/resource_providers?resources=VCPU:1,MEMORY_MB:%d,DISK_GB:1", s.admin.Services["placement"], guestMemory)
	got, err := s.admin.Do(ctx, http.MethodGet, url, "placement 1.30", nil)
	if err != nil {
		return err
	}
	var listed struct {
		Providers []entry `json:"resource_providers"`
	}
	if err := got.Into(&listed); err != nil {
		return err
	}
	var names []string
	for _, p := range listed.Providers {
		names = append(names, p.Name)
	}
	return missing("resource provider", names, hypervisors())
}

// join puts a host into a zone.
func (s *seeder) join(ctx context.Context, zone, host string) error {
	url := s.admin.Services["compute"] + "/os-aggregates"
	got, err := s.admin.Do(ctx, http.MethodGet, url, "", nil)
	if err != nil {
		return err
	}
	var listed struct {
		Aggregates []struct {
			ID   int
			Name string
		}
	}
	if err := got.Into(&listed); err != nil {
		return err
	}
	for _, a := range listed.Aggregates {
		if a.Name != zone {
			continue
		}
		got, err := s.admin.Do(ctx, http.MethodPost, fmt.Sprintf("%s/%d/action", url, a.ID), "", object{"add_host": object{"host": host}})
		if err != nil {
			return err
		}
		return got.Into(nil, http.StatusOK, http.StatusConflict) // it may be there already
	}
	return fmt.Errorf("there is no aggregate %s", zone)
}
