package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/api"
)

// object is a body of JSON.
type object = map[string]any

// seeder fills a new cloud.
type seeder struct {
	stack  *Stack
	cloud  Cloud
	admin  *api.Session
	member *api.Session
}

// entry is what the answers have in common.
type entry struct {
	ID, Name, Secret string
}

// make creates one thing and returns it.
func (s *seeder) make(ctx context.Context, session *api.Session, url, version, kind string, fields object) (entry, error) {
	got, err := session.Do(ctx, http.MethodPost, url, version, object{kind: fields})
	if err != nil {
		return entry{}, fmt.Errorf("make %s: %w", kind, err)
	}
	// Beside it there may be a list of links.
	answer := map[string]json.RawMessage{}
	made := entry{}
	err = got.Into(&answer)
	if err == nil {
		err = json.Unmarshal(answer[kind], &made)
	}
	if err != nil {
		return entry{}, fmt.Errorf("make %s %v: %w", kind, fields["name"], err)
	}
	return made, nil
}

// accounts makes the catalog, the users, and Cinder's types.
func (s *seeder) accounts(ctx context.Context) error {
	secret := s.stack.secret
	s.cloud = Cloud{
		Identity: identity, Servers: map[string]string{}, Packages: versions(ctx),
		Member: api.Credentials{User: "member", Password: secret, Project: "member"},
		Other:  api.Credentials{User: "other", Password: secret, Project: "other"},
		Admin:  api.Credentials{User: "admin", Password: secret, Project: "admin"},
	}
	var err error
	if s.admin, err = api.Login(ctx, identity, s.cloud.Admin); err != nil {
		return err
	}
	if err := s.catalog(ctx); err != nil {
		return err
	}
	if err := s.users(ctx); err != nil {
		return err
	}
	// The catalog comes with the token.
	if s.admin, err = api.Login(ctx, identity, s.cloud.Admin); err != nil {
		return err
	}
	if s.member, err = api.Login(ctx, identity, s.cloud.Member); err != nil {
		return err
	}
	credential, err := s.make(ctx, s.member, identity+"/users/"+s.member.UserID+"/application_credentials", "", "application_credential",
		object{"name": "csi", "roles": []object{{"name": "member"}}})
	if err != nil {
		return err
	}
	s.cloud.Credential = api.Credentials{CredentialID: credential.ID, CredentialSecret: credential.Secret}
	if err := s.types(ctx); err != nil {
		return err
	}
	return s.quotas(ctx)
}

func (s *seeder) catalog(ctx context.Context) error {
	for _, service := range []struct{ kind, name, url string }{
		{"volumev3", "cinderv3", "http://127.0.0.1:8776/v3/$(project_id)s"},
		{"block-storage", "cinder", "http://127.0.0.1:8776/v3/$(project_id)s"},
		{"compute", "nova", "http://127.0.0.1:8774/v2.1"},
		{"image", "glance", "http://127.0.0.1:9292"},
		{"placement", "placement", "http://127.0.0.1:8778"},
		{"network", "neutron", "http://" + neutronAddress},
	} {
		made, err := s.make(ctx, s.admin, identity+"/services", "", "service", object{"type": service.kind, "name": service.name})
		if err != nil {
			return err
		}
		for _, face := range []string{"public", "internal", "admin"} {
			_, err := s.make(ctx, s.admin, identity+"/endpoints", "", "endpoint",
				object{"service_id": made.ID, "interface": face, "region_id": "RegionOne", "url": service.url})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *seeder) users(ctx context.Context) error {
	if _, err := s.make(ctx, s.admin, identity+"/roles", "", "role", object{"name": "service"}); err != nil {
		return err
	}
	got, err := s.admin.Do(ctx, http.MethodGet, identity+"/roles", "", nil)
	if err != nil {
		return err
	}
	var listed struct{ Roles []entry }
	if err := got.Into(&listed); err != nil {
		return err
	}
	roles := map[string]string{}
	for _, r := range listed.Roles {
		roles[r.Name] = r.ID
	}
	projects := map[string]string{}
	for _, name := range []string{"service", "member", "other"} {
		p, err := s.make(ctx, s.admin, identity+"/projects", "", "project", object{"name": name, "domain_id": "default"})
		if err != nil {
			return err
		}
		projects[name] = p.ID
	}
	for _, u := range []struct {
		name, project string
		roles         []string
	}{
		{"cinder", "service", []string{"admin", "service"}}, {"nova", "service", []string{"admin", "service"}},
		{"glance", "service", []string{"admin", "service"}}, {"placement", "service", []string{"admin", "service"}},
		{"member", "member", []string{"member"}}, {"other", "other", []string{"member"}},
	} {
		made, err := s.make(ctx, s.admin, identity+"/users", "", "user", object{"name": u.name, "domain_id": "default", "password": s.stack.secret})
		if err != nil {
			return err
		}
		for _, role := range u.roles {
			url := identity + "/projects/" + projects[u.project] + "/users/" + made.ID + "/roles/" + roles[role]
			if err := s.do(ctx, s.admin, http.MethodPut, url, nil); err != nil {
				return fmt.Errorf("give %s the role %s: %w", u.name, role, err)
			}
		}
	}
	return nil
}

// do sends a request whose answer is of no interest if it is a good one.
func (s *seeder) do(ctx context.Context, session *api.Session, method, url string, body any) error {
	got, err := session.Do(ctx, method, url, "", body)
	if err != nil {
		return err
	}
	return got.Into(nil)
}

// types makes the volume types: ordinary volumes and multiattach ones, which
// either zone has; ones with a quality of service; ones of the back end that
// can do less; ones that nobody can make.
func (s *seeder) types(ctx context.Context) error {
	volume := s.admin.Services["block-storage"]
	ids := map[string]string{}
	for _, t := range []struct {
		name  string
		specs map[string]string
	}{
		{"standard", map[string]string{"volume_backend_name": "ceph"}},
		{"multiattach", map[string]string{"volume_backend_name": "ceph", "multiattach": "<is> True"}},
		{"fast", map[string]string{"volume_backend_name": "ceph"}},
		{"nfs", map[string]string{"volume_backend_name": "nfs"}},
		{"nobackend", map[string]string{"volume_backend_name": "nothing"}},
	} {
		made, err := s.make(ctx, s.admin, volume+"/types", "", "volume_type", object{"name": t.name, "extra_specs": t.specs})
		if err != nil {
			return err
		}
		ids[t.name] = made.ID
	}
	// Applied by the back end: RBD refuses to change the type of a volume to one
	// whose quality of service is the front end's.
	qos, err := s.make(ctx, s.admin, volume+"/qos-specs", "", "qos_specs",
		object{"name": "fast", "consumer": "back-end", "total_iops_sec": "5000"})
	if err != nil {
		return err
	}
	if err := s.do(ctx, s.admin, http.MethodGet, volume+"/qos-specs/"+qos.ID+"/associate?vol_type_id="+ids["fast"], nil); err != nil {
		return fmt.Errorf("give the type its quality of service: %w", err)
	}
	return s.defaultType(ctx, volume)
}

// defaultType keeps volumes of no named type away from the NFS back end.
func (s *seeder) defaultType(ctx context.Context, volume string) error {
	got, err := s.admin.Do(ctx, http.MethodGet, volume+"/types/default", "", nil)
	if err != nil {
		return err
	}
	var answer struct {
		Type entry `json:"volume_type"`
	}
	if err := got.Into(&answer); err != nil {
		return err
	}
	return s.do(ctx, s.admin, http.MethodPost, volume+"/types/"+answer.Type.ID+"/extra_specs",
		object{"extra_specs": map[string]string{"volume_backend_name": "ceph"}})
}

// quotas gives the member room.
func (s *seeder) quotas(ctx context.Context) error {
	return s.do(ctx, s.admin, http.MethodPut, s.admin.Services["block-storage"]+"/os-quota-sets/"+s.member.ProjectID, object{
		"quota_set": map[string]int{"volumes": 1000, "snapshots": 1000, "gigabytes": 10000, "backups": 1000, "backup_gigabytes": 10000},
	})
}

// versions are those of the packages that the answers come from.
func versions(ctx context.Context) map[string]string {
	found := map[string]string{}
	out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Package} ${Version}\n", "mariadb-server", "rabbitmq-server", "keystone",
		"glance-api", "placement-api", "cinder-api", "nova-api", "ceph-osd").Output()
	if err != nil {
		return found // they are told, and nothing hangs on them
	}
	for line := range strings.Lines(string(out)) {
		if name, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			found[name] = version
		}
	}
	return found
}
