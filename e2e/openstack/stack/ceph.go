package stack

import (
	"context"
	"os"
	"time"
)

// Ids of the one Ceph cluster and its one disk.
const (
	cephID = "aaaaaaaa-0000-4000-8000-000000000001"
	diskID = "aaaaaaaa-0000-4000-8000-0000000000a0"
)

// ceph starts one monitor, one manager and one disk in a sparse file, without
// authentication, and makes a pool for each zone.
func (s *Stack) ceph(ctx context.Context) error {
	conf := s.path("conf/ceph/ceph.conf")
	if err := s.monitor(ctx, conf); err != nil {
		return err
	}
	if err := s.launch(ctx, "ceph-mgr", nil, "ceph-mgr", "-c", conf, "-i", "x", "-f"); err != nil {
		return err
	}
	commands := [][]string{
		{"ceph", "-c", conf, "--connect-timeout", "60", "osd", "new", diskID, "0"},
		{"ceph-osd", "-c", conf, "-i", "0", "--mkfs", "--osd-uuid", diskID},
	}
	if err := s.runAll(ctx, commands); err != nil {
		return err
	}
	if err := s.launch(ctx, "ceph-osd", nil, "ceph-osd", "-c", conf, "-i", "0", "-f"); err != nil {
		return err
	}
	return s.runAll(ctx, [][]string{
		{"timeout", "60", "sh", "-c", "until ceph -c " + conf + " osd stat | grep -q '1 up'; do sleep 0.2; done"},
		{"ceph", "-c", conf, "osd", "pool", "create", "volumes1", "8", "8"},
		{"ceph", "-c", conf, "osd", "pool", "create", "volumes2", "8", "8"},
		{"rbd", "-c", conf, "pool", "init", "volumes1"},
		{"rbd", "-c", conf, "pool", "init", "volumes2"},
	})
}

// monitor makes and starts the monitor.
func (s *Stack) monitor(ctx context.Context, conf string) error {
	home := s.path("state/ceph")
	keyring := home + "/keyring"
	err := s.runAll(ctx, [][]string{
		{"ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"},
		{"ceph-authtool", keyring, "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"},
		{"monmaptool", "--create", "--clobber", "--addv", "a", "[v2:127.0.0.1:3300,v1:127.0.0.1:6789]", "--fsid", cephID, home + "/monmap"},
		{"ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", home + "/monmap", "--keyring", keyring},
	})
	if err != nil {
		return err
	}
	key, err := os.ReadFile(keyring)
	if err != nil {
		return err
	}
	if err := s.write("state/ceph/mon/keyring", string(key), 0o600); err != nil {
		return err
	}
	if err := s.launch(ctx, "ceph-mon", nil, "ceph-mon", "-c", conf, "-i", "a", "-f"); err != nil {
		return err
	}
	return s.wait(ctx, "Ceph's monitor", 30*time.Second, port(3300), "ceph-mon")
}

// runAll runs programs one after the other.
func (s *Stack) runAll(ctx context.Context, commands [][]string) error {
	for _, c := range commands {
		if err := s.run(ctx, nil, c[0], c[1:]...); err != nil {
			return err
		}
	}
	return nil
}
