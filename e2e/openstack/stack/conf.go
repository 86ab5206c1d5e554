package stack

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed conf mount.nfs
var files embed.FS

// The ports of loopback. Those of the services are the usual ones.
const (
	databasePort = 13306
	queuePort    = 15673
)

// Files of the packages that the services read from the folder of their
// configuration.
func packaged() map[string]string {
	return map[string]string{
		"glance/glance-api-paste.ini":  "/etc/glance/glance-api-paste.ini",
		"cinder/api-paste.ini":         "/etc/cinder/api-paste.ini",
		"cinder/resource_filters.json": "/etc/cinder/resource_filters.json",
		"nova/api-paste.ini":           "/etc/nova/api-paste.ini",
	}
}

// configure makes the folders and writes every configuration.
func (s *Stack) configure() error {
	for _, dir := range []string{
		"run/ceph", "log", "shim", "conf/rabbit", "state/keystone", "state/glance/images", "state/glance/tasks",
		"state/glance/staging", "state/backup", "state/nfs/export", "state/cinder/mnt", "state/cinder/lock",
		"state/nova/fake1", "state/nova/fake2", "state/nova/lock", "state/nova/mnt", "state/rabbit", "state/mysql",
		"state/ceph/mon", "state/ceph/mgr", "state/ceph/osd", "state/ceph/crash/posted",
	} {
		if err := s.folder(dir); err != nil {
			return err
		}
	}
	for name, source := range packaged() {
		text, err := os.ReadFile(source)
		if err != nil {
			return fmt.Errorf("%w: install its package", err)
		}
		if err := s.write("conf/"+name, string(text), 0o600); err != nil {
			return err
		}
	}
	shim, err := files.ReadFile("mount.nfs")
	err = errors.Join(err, s.write("shim/mount.nfs", string(shim), 0o755),
		s.write("conf/rabbit/plugins", "[].\n", 0o600), s.write("conf/rabbit/rabbit.conf", "", 0o600))
	if err != nil {
		return err
	}
	return fs.WalkDir(files, "conf", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return s.render(path)
	})
}

// render writes one configuration from its template.
func (s *Stack) render(path string) error {
	t, err := template.New(filepath.Base(path)).Funcs(template.FuncMap{
		"database": s.databaseURL, "login": s.serviceLogin, "tokens": s.serviceTokens,
	}).ParseFS(files, path)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := t.Execute(&text, map[string]string{"Dir": s.dir, "Queue": s.queueURL()}); err != nil {
		return err
	}
	return s.write(path, text.String(), 0o600)
}

func (s *Stack) databaseURL(name string) string {
	return fmt.Sprintf("mysql+pymysql://os:%s@127.0.0.1:%d/%s?charset=utf8", s.secret, databasePort, name)
}

func (s *Stack) queueURL() string {
	return fmt.Sprintf("rabbit://guest:guest@127.0.0.1:%d/", queuePort)
}

// serviceLogin is how a service logs in at Keystone.
func (s *Stack) serviceLogin(user string) string {
	return strings.Join([]string{
		"auth_url = " + identity, "auth_type = password", "project_domain_id = default", "user_domain_id = default",
		"project_name = service", "username = " + user, "password = " + s.secret, "region_name = RegionOne",
	}, "\n")
}

// serviceTokens is how a service checks the tokens of others.
func (s *Stack) serviceTokens(user string) string {
	return "[keystone_authtoken]\nwww_authenticate_uri = " + identity + "\n" + s.serviceLogin(user) +
		"\nservice_token_roles = service\nservice_token_roles_required = true"
}

// folder makes a folder that programs which give up root can read, too.
func (s *Stack) folder(name string) error {
	return os.MkdirAll(s.path(name), 0o755) //nolint:gosec // as the comment says
}

func (s *Stack) write(name, text string, mode os.FileMode) error {
	path := s.path(name)
	if err := s.folder(filepath.Dir(name)); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
