package stack

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// port asks whether somebody listens on a port of loopback.
func port(number int) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(number)))
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// database makes the database server and the databases.
func (s *Stack) database(ctx context.Context) error {
	err := s.run(ctx, nil, "mariadb-install-db", "--no-defaults", "--user=root", "--datadir="+s.path("state/mysql"),
		"--auth-root-authentication-method=socket", "--skip-test-db")
	if err != nil {
		return err
	}
	if err := s.launchDatabase(ctx); err != nil {
		return err
	}
	var sql strings.Builder
	for _, name := range []string{"keystone", "placement", "glance", "cinder", "nova", "nova_api", "nova_cell0"} {
		fmt.Fprintf(&sql, "CREATE DATABASE %s CHARACTER SET utf8mb3;\n", name)
	}
	fmt.Fprintf(&sql, "CREATE USER 'os'@'127.0.0.1' IDENTIFIED BY '%s'; GRANT ALL ON *.* TO 'os'@'127.0.0.1';", s.secret)
	if err := s.wait(ctx, "MariaDB", time.Minute, port(databasePort), "mariadb"); err != nil {
		return err
	}
	return s.run(ctx, nil, "mariadb", "--no-defaults", "-uroot", "-S", s.path("run/mysql.sock"), "-e", sql.String())
}

// queue starts RabbitMQ.
func (s *Stack) queue(ctx context.Context) error {
	if err := s.launchQueue(ctx); err != nil {
		return err
	}
	return s.wait(ctx, "RabbitMQ", 2*time.Minute, port(queuePort), "rabbitmq")
}

// schemas fills the databases, and gives Keystone its administrator.
func (s *Stack) schemas(ctx context.Context) error {
	keystone := []string{"keystone-manage", "--config-file", s.path("conf/keystone/keystone.conf")}
	nova := []string{"nova-manage", "--config-file", s.path("conf/nova/nova.conf")}
	with := func(base []string, args ...string) []string { return append(append([]string{}, base...), args...) }
	return together(
		func() error {
			return s.runAll(ctx, [][]string{
				with(keystone, "fernet_setup", "--keystone-user", "root", "--keystone-group", "root"),
				with(keystone, "credential_setup", "--keystone-user", "root", "--keystone-group", "root"),
				with(keystone, "db_sync"),
				with(keystone, "bootstrap", "--bootstrap-password", s.secret, "--bootstrap-admin-url", identity,
					"--bootstrap-public-url", identity, "--bootstrap-internal-url", identity, "--bootstrap-region-id", "RegionOne"),
			})
		},
		func() error {
			return s.runAll(ctx, [][]string{
				with(nova, "api_db", "sync"),
				with(nova, "cell_v2", "map_cell0", "--database_connection", s.databaseURL("nova_cell0")),
				with(nova, "db", "sync"),
				with(nova, "cell_v2", "create_cell", "--name", "cell1"),
			})
		},
		func() error {
			err := s.run(ctx, nil, "cinder-manage", "--config-file", s.path("conf/cinder/cinder.conf"), "db", "sync")
			if err != nil {
				return err
			}
			placement := []string{"OS_PLACEMENT_CONFIG_DIR=" + s.path("conf/placement")}
			err = s.run(ctx, placement, "placement-manage", "--config-file", s.path("conf/placement/placement.conf"), "db", "sync")
			if err != nil {
				return err
			}
			return s.run(ctx, nil, "glance-manage", "--config-file", s.path("conf/glance/glance-api.conf"), "db", "sync")
		},
	)
}
