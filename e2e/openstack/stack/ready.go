package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// daemons are what the cloud is ready with.
func daemons() []string {
	return []string{"cinder-scheduler", "cinder-volume", "cinder-backup", "nova-conductor", "nova-scheduler", "nova-compute-fake1", "nova-compute-fake2"}
}

// service is one line of Cinder's or Nova's list of services.
type service struct{ Binary, Host, State string }

// up returns the hosts of a kind of service that are there.
func (s *seeder) up(ctx context.Context, endpoint, binary string) ([]string, error) {
	got, err := s.admin.Do(ctx, http.MethodGet, s.admin.Services[endpoint]+"/os-services?binary="+binary, "", nil)
	if err != nil {
		return nil, err
	}
	var listed struct{ Services []service }
	if err := got.Into(&listed); err != nil {
		return nil, err
	}
	var hosts []string
	for _, l := range listed.Services {
		if l.State == "up" {
			_, backend, ok := strings.Cut(l.Host, "@")
			if !ok {
				backend = l.Host
			}
			hosts = append(hosts, backend)
		}
	}
	return hosts, nil
}

// missing tells which of the wanted are not there.
func missing(what string, have, want []string) error {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return fmt.Errorf("%s %s is not up", what, w)
		}
	}
	return nil
}

// backends waits until the scheduler knows the pools of all back ends.
func (s *seeder) backends(ctx context.Context) error {
	want := []string{"ceph1", "ceph2", "nfs1"}
	return s.stack.wait(ctx, "Cinder's back ends", 2*time.Minute, func(ctx context.Context) error {
		hosts, err := s.up(ctx, "block-storage", "cinder-volume")
		if err != nil {
			return err
		}
		backups, err := s.up(ctx, "block-storage", "cinder-backup")
		if err != nil || len(backups) == 0 {
			return errors.Join(err, errors.New("cinder-backup is not up"))
		}
		got, err := s.admin.Do(ctx, http.MethodGet, s.admin.Services["block-storage"]+"/scheduler-stats/get_pools", "", nil)
		if err != nil {
			return err
		}
		var listed struct{ Pools []entry }
		if err := got.Into(&listed); err != nil {
			return err
		}
		var pools []string
		for _, p := range listed.Pools {
			name, _, _ := strings.Cut(p.Name, "#")
			_, name, _ = strings.Cut(name, "@")
			pools = append(pools, name)
		}
		return errors.Join(missing("back end", hosts, want), missing("pool of", pools, want))
	}, daemons()...)
}

// computes waits for the hosts of servers, puts one into another zone, and
// boots the servers.
func (s *seeder) computes(ctx context.Context) error {
	compute := s.admin.Services["compute"]
	if err := s.images(ctx); err != nil {
		return err
	}
	err := s.stack.wait(ctx, "Nova's computes", 2*time.Minute, func(ctx context.Context) error {
		hosts, err := s.up(ctx, "compute", "nova-compute")
		return errors.Join(err, missing("compute", hosts, computes()))
	}, daemons()...)
	if err != nil {
		return err
	}
	// Nova would look for new hosts by itself, but only after a minute.
	nova := []string{"--config-file", s.stack.path("conf/nova/nova.conf")}
	if err := s.stack.run(ctx, nil, "nova-manage", append(nova, "cell_v2", "discover_hosts")...); err != nil {
		return err
	}
	got, err := s.admin.Do(ctx, http.MethodPost, compute+"/os-aggregates", "", object{"aggregate": object{"name": "az2", "availability_zone": "az2"}})
	if err != nil {
		return err
	}
	var made struct{ Aggregate struct{ ID int } }
	if err := got.Into(&made); err != nil {
		return err
	}
	url := fmt.Sprintf("%s/os-aggregates/%d/action", compute, made.Aggregate.ID)
	if err := s.do(ctx, s.admin, http.MethodPost, url, object{"add_host": object{"host": "fake2"}}); err != nil {
		return err
	}
	return s.servers(ctx)
}

// images makes the image and the flavor of the servers.
func (s *seeder) images(ctx context.Context) error {
	flavor, err := s.make(ctx, s.admin, s.admin.Services["compute"]+"/flavors", "", "flavor", object{"name": "small", "ram": 64, "disk": 1, "vcpus": 1})
	if err != nil {
		return err
	}
	image, err := s.upload(ctx, object{
		// There is no guest in it: it is for the computes without a hypervisor.
		"name": "empty", "disk_format": "raw", "container_format": "bare", "img_hv_type": "fake",
	}, make([]byte, 1<<20))
	s.cloud.Flavor, s.cloud.Image = flavor.ID, image
	return err
}

// servers boots what the volumes are attached to.
func (s *seeder) servers(ctx context.Context) error {
	compute := s.member.Services["compute"]
	for name, zone := range map[string]string{"node1": "nova", "node2": "nova", "node3": "az2"} {
		made, err := s.make(ctx, s.member, compute+"/servers", "compute 2.93", "server", object{
			"name": name, "availability_zone": zone, "imageRef": s.cloud.Image, "flavorRef": s.cloud.Flavor, "networks": "none",
		})
		if err != nil {
			return err
		}
		s.cloud.Servers[name] = made.ID
	}
	return s.active(ctx, s.cloud.Servers)
}

// status returns the status of a thing.
func (s *seeder) status(ctx context.Context, url, kind string) (string, error) {
	got, err := s.member.Do(ctx, http.MethodGet, url, "", nil)
	if err != nil {
		return "", err
	}
	answer := map[string]struct{ Status string }{}
	err = got.Into(&answer)
	return answer[kind].Status, err
}

// firstVolume makes a volume in each zone and deletes it.
func (s *seeder) firstVolume(ctx context.Context) error {
	volume := s.member.Services["block-storage"]
	for _, zone := range []string{"nova", "az2"} {
		made, err := s.make(ctx, s.member, volume+"/volumes", "", "volume", object{"size": 1, "availability_zone": zone})
		if err != nil {
			return err
		}
		err = s.stack.wait(ctx, "the first volume in "+zone, time.Minute, func(ctx context.Context) error {
			status, err := s.status(ctx, volume+"/volumes/"+made.ID, "volume")
			if err != nil || status != "available" {
				return errors.Join(err, fmt.Errorf("it is %s", status))
			}
			return nil
		}, daemons()...)
		if err != nil {
			return err
		}
		if err := s.do(ctx, s.member, http.MethodDelete, volume+"/volumes/"+made.ID, nil); err != nil {
			return err
		}
	}
	return nil
}
