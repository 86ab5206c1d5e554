package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Up starts the cloud from nothing, or says that it runs already.
func (s *Stack) Up(ctx context.Context) error {
	if _, err := s.sup.States(ctx); err == nil {
		if _, err := Load(s.dir); err == nil {
			_, err = fmt.Fprintf(s.out, "an OpenStack runs in %s already\n", s.dir)
			return err
		}
	}
	if err := s.Down(ctx); err != nil { // what an earlier attempt left
		return err
	}
	if err := s.free(ctx); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(s.out, "an OpenStack in %s\n      at      took  what\n", s.dir)
	if err := s.step("configuration", s.configure); err != nil {
		return err
	}
	self, err := s.hold(ctx)
	if err != nil {
		return err
	}
	cloud, err := s.services(ctx, self)
	if err != nil {
		return fmt.Errorf("%w\nThe logs are in %s until make openstack-down", err, s.path("log"))
	}
	_, err = fmt.Fprintf(s.out, "ready: Keystone at %s, cloud.conf in %s\n", cloud.Identity, s.path("cloud.conf"))
	return err
}

// free makes sure that nobody else has the ports.
func (s *Stack) free(ctx context.Context) error {
	taken := []int{databasePort, queuePort, 3300, 9696}
	for _, api := range s.apis() {
		taken = append(taken, api.port)
	}
	for _, number := range taken {
		if port(number)(ctx) == nil {
			return fmt.Errorf("port %d of loopback is taken by another program (ss -ltnp tells which): end it first", number)
		}
	}
	return nil
}

// copied is the copy of this program that the services are started from.
const copied = "run/openstack"

// hold starts the supervisor, in namespaces of its own and from a copy of this
// program, and returns the copy's path.
func (s *Stack) hold(ctx context.Context) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	if err := s.write(copied, string(program), 0o755); err != nil {
		return "", err
	}
	log, err := os.Create(s.path("log/supervisor.out"))
	if err != nil {
		return "", err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(s.path(copied), "hold") //nolint:noctx // it outlives this program
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", s.environment(), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start the supervisor in namespaces of its own: %w", err)
	}
	if err := s.remember(cmd.Process.Pid); err != nil {
		return "", errors.Join(err, cmd.Process.Kill())
	}
	err = s.wait(ctx, "the supervisor", 20*time.Second, func(ctx context.Context) error {
		_, err := s.sup.States(ctx)
		return err
	})
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return "", fmt.Errorf("%w: %s", err, tail(said))
	}
	return s.path(copied), cmd.Process.Release()
}

// services starts everything, in an order in which nobody waits for long.
func (s *Stack) services(ctx context.Context, self string) (*Cloud, error) {
	ceph := make(chan error, 1)
	go func() { ceph <- s.step("Ceph", func() error { return s.ceph(ctx) }) }()
	err := together(
		func() error { return s.step("MariaDB", func() error { return s.database(ctx) }) },
		func() error { return s.step("RabbitMQ", func() error { return s.queue(ctx) }) },
	)
	if err != nil {
		return nil, errors.Join(err, <-ceph)
	}
	err = errors.Join(s.step("schemas", func() error { return s.schemas(ctx) }), <-ceph)
	if err != nil {
		return nil, err
	}
	for _, api := range s.apis() {
		if err := s.launchAPI(ctx, api); err != nil {
			return nil, err
		}
	}
	if err := s.launchCinder(ctx); err != nil {
		return nil, err
	}
	if err := s.step("APIs answer", func() error { return s.answering(ctx) }); err != nil {
		return nil, err
	}
	seed := &seeder{stack: s}
	if err := s.step("accounts, catalog, types", func() error { return seed.accounts(ctx) }); err != nil {
		return nil, err
	}
	if err := s.launchNova(ctx, self); err != nil {
		return nil, err
	}
	err = together(
		func() error { return s.step("Cinder's back ends", func() error { return seed.backends(ctx) }) },
		func() error { return s.step("Nova's computes and servers", func() error { return seed.computes(ctx) }) },
	)
	if err != nil {
		return nil, err
	}
	if err := s.step("first volume", func() error { return seed.firstVolume(ctx) }); err != nil {
		return nil, err
	}
	return &seed.cloud, s.publish(seed.cloud)
}

// answering waits until every API answers HTTP.
func (s *Stack) answering(ctx context.Context) error {
	var all []func() error
	for _, api := range s.apis() {
		all = append(all, func() error {
			url := fmt.Sprintf("http://127.0.0.1:%d/", api.port)
			return s.wait(ctx, api.name, 2*time.Minute, func(ctx context.Context) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					return err
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return err
				}
				return resp.Body.Close()
			}, api.name)
		})
	}
	return together(all...)
}

// publish writes down how the cloud is reached. The last thing written says
// that it is ready.
func (s *Stack) publish(c Cloud) error {
	conf := fmt.Sprintf(`[Global]
auth-url=%s
username=%s
password=%s
tenant-name=%s
domain-name=Default
tenant-domain-name=Default
region=RegionOne

[BlockStorage]
ignore-volume-az=false
`, c.Identity, c.Member.User, c.Member.Password, c.Member.Project)
	credential := fmt.Sprintf("[Global]\nauth-url=%s\napplication-credential-id=%s\napplication-credential-secret=%s\nregion=RegionOne\n",
		c.Identity, c.Credential.CredentialID, c.Credential.CredentialSecret)
	clouds := fmt.Sprintf("[Global]\nuse-clouds=true\nclouds-file=%s\ncloud=real\n", s.path("clouds.yaml"))
	err := errors.Join(
		s.write("cloud.conf", conf, 0o600),
		s.write("credential.conf", credential, 0o600),
		s.write("clouds.yaml", s.cloudsYAML(c), 0o600),
		s.write("clouds.conf", clouds, 0o600),
	)
	if err != nil {
		return err
	}
	return s.save(c)
}

// save writes what tests have to know, in one piece.
func (s *Stack) save(c Cloud) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := s.write("openstack.json.new", string(text)+"\n", 0o600); err != nil {
		return err
	}
	return os.Rename(s.path("openstack.json.new"), s.path("openstack.json"))
}

func (s *Stack) cloudsYAML(c Cloud) string {
	return strings.Join([]string{
		"clouds:", "  real:", "    region_name: RegionOne", "    auth:", "      auth_url: " + c.Identity,
		"      username: " + c.Member.User, "      password: " + c.Member.Password, "      project_name: " + c.Member.Project,
		"      user_domain_name: Default", "      project_domain_name: Default", "",
	}, "\n")
}
