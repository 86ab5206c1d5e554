package stack

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/supervisor"
)

// launch starts a service under the supervisor.
func (s *Stack) launch(ctx context.Context, name string, env []string, args ...string) error {
	return s.sup.Start(ctx, supervisor.Service{
		Name: name, Args: args, Env: append(s.environment(), env...), Log: s.path("log/" + name + ".out"),
	})
}

func (s *Stack) launchDatabase(ctx context.Context) error {
	return s.launch(ctx, "mariadb", nil, "mariadbd", "--no-defaults", "--user=root", "--datadir="+s.path("state/mysql"),
		"--socket="+s.path("run/mysql.sock"), "--pid-file="+s.path("run/mariadbd.pid"),
		"--bind-address=127.0.0.1", "--port="+strconv.Itoa(databasePort), "--skip-log-bin", "--max-connections=1000",
		// The data is not to survive a crash of the machine.
		"--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-buffer-pool-size=128M",
		"--innodb-log-file-size=48M", "--skip-name-resolve", "--character-set-server=utf8mb3", "--performance-schema=off")
}

func (s *Stack) launchQueue(ctx context.Context) error {
	env := []string{
		"RABBITMQ_NODENAME=cloud@localhost", "RABBITMQ_MNESIA_BASE=" + s.path("state/rabbit"), "RABBITMQ_LOG_BASE=" + s.path("log"),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT=" + strconv.Itoa(queuePort),
		"RABBITMQ_DIST_PORT=" + strconv.Itoa(queuePort+20000), "HOME=" + s.path("state/rabbit"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
		"ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT=14369",
		"RABBITMQ_CONFIG_FILE=" + s.path("conf/rabbit/rabbit"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + s.path("conf/rabbit/plugins"),
		"RABBITMQ_PID_FILE=" + s.path("run/rabbit.pid"),
	}
	if err := s.launch(ctx, "epmd", nil, "epmd", "-address", "127.0.0.1", "-port", "14369"); err != nil {
		return err
	}
	return s.launch(ctx, "rabbitmq", env, "/usr/lib/rabbitmq/bin/rabbitmq-server")
}

// wsgi is an API that uWSGI serves.
type wsgi struct {
	name               string
	port               int
	processes, threads int
	file               string
	more               []string
}

// apis are the services that answer HTTP.
func (s *Stack) apis() []wsgi {
	return []wsgi{
		{"keystone", 5000, 2, 4, "/usr/bin/keystone-wsgi-public", []string{"--pyargv", "--config-file " + s.path("conf/keystone/keystone.conf")}},
		{"placement", 8778, 1, 4, "/usr/bin/placement-api", []string{"--env", "OS_PLACEMENT_CONFIG_DIR=" + s.path("conf/placement")}},
		{"glance", 9292, 1, 4, "/usr/bin/glance-wsgi-api", []string{
			"--env", "OS_GLANCE_CONFIG_DIR=" + s.path("conf/glance"), "--pyargv", "--config-file " + s.path("conf/glance/glance-api.conf"),
		}},
		{"cinder-api", 8776, 2, 4, "/usr/bin/cinder-wsgi", []string{
			"--pyargv", "--config-file " + s.path("conf/cinder/cinder.conf") + " --log-file " + s.path("log/cinder-api.log"),
		}},
		{"nova-api", 8774, 2, 1, "/usr/bin/nova-api-wsgi", []string{"--env", "OS_NOVA_CONFIG_DIR=" + s.path("conf/nova")}},
	}
}

func (s *Stack) launchAPI(ctx context.Context, w wsgi) error {
	// Debian's uwsgi knows no option of Python before its plugin is loaded:
	// the program of that name has it.
	args := []string{
		"uwsgi_python3", "--master", "--http-socket", fmt.Sprintf("127.0.0.1:%d", w.port), "--processes", strconv.Itoa(w.processes),
		"--threads", strconv.Itoa(w.threads), "--enable-threads", "--lazy-apps", "--die-on-term", "--buffer-size", "65535",
		"--add-header", "Connection: close", "--need-app", "--disable-logging", "--wsgi-file", w.file,
	}
	return s.launch(ctx, w.name, nil, append(args, w.more...)...)
}

// launchDaemon starts a daemon of Cinder or Nova.
func (s *Stack) launchDaemon(ctx context.Context, name, program string, configs ...string) error {
	args := []string{program}
	for _, c := range configs {
		args = append(args, "--config-file", s.path("conf/"+c))
	}
	return s.launch(ctx, name, nil, append(args, "--log-file", s.path("log/"+name+".log"))...)
}

func (s *Stack) launchCinder(ctx context.Context) error {
	for _, name := range []string{"cinder-scheduler", "cinder-volume", "cinder-backup"} {
		if err := s.launchDaemon(ctx, name, name, "cinder/cinder.conf"); err != nil {
			return err
		}
	}
	return nil
}

// launchNova starts Nova's daemons; the conductor first, or the computes wait
// ten seconds before they try again.
func (s *Stack) launchNova(ctx context.Context, self string) error {
	if err := s.launch(ctx, "neutron", nil, self, "neutron"); err != nil {
		return err
	}
	for _, name := range []string{"nova-conductor", "nova-scheduler"} {
		if err := s.launchDaemon(ctx, name, name, "nova/nova.conf"); err != nil {
			return err
		}
	}
	for _, host := range computes() {
		if err := s.launchCompute(ctx, host); err != nil {
			return err
		}
	}
	return nil
}

// computes are the hosts of servers without a guest.
func computes() []string { return []string{"fake1", "fake2"} }

// mounts are what the services see in place of what the machine has.
func (s *Stack) mounts() []supervisor.Mount {
	return []supervisor.Mount{
		// mount(8) looks for its helpers in /sbin only.
		{Source: "overlay", Target: "/usr/sbin", Type: "overlay", Options: "lowerdir=" + s.path("shim") + ":/usr/sbin"},
		supervisor.Bind(s.path("conf/ceph"), "/etc/ceph"),
		// What Nova mounts for its guests is seen by their hypervisors, too.
		supervisor.Bind(s.path("state/nova/mnt"), s.path("state/nova/mnt")),
		supervisor.Shared(s.path("state/nova/mnt")),
	}
}

// Restart starts one of the services that tests stop.
func (s *Stack) Restart(ctx context.Context, name string) error {
	switch name {
	case "cinder-scheduler", "cinder-volume", "cinder-backup":
		return s.launchDaemon(ctx, name, name, "cinder/cinder.conf")
	case "nova-conductor", "nova-scheduler":
		return s.launchDaemon(ctx, name, name, "nova/nova.conf")
	case "rabbitmq":
		return s.launchQueue(ctx)
	}
	if host, ok := strings.CutPrefix(name, "nova-compute-"); ok && slices.Contains(append(computes(), hypervisors()...), host) {
		return s.launchCompute(ctx, host)
	}
	for _, api := range s.apis() {
		if api.name == name {
			return s.launchAPI(ctx, api)
		}
	}
	return fmt.Errorf("no service %q that could be started alone", name)
}
