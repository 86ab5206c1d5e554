package contract

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/api"
)

// identityRows are about logging in and about tokens.
func identityRows() []row {
	refused := func(p *probe, name string, account api.Credentials) {
		got := p.token(account)
		p.note("log in %s: %d %s", name, got.Status, shape(got, "error"))
	}
	password := func(user, password, project string) api.Credentials {
		return api.Credentials{User: user, Password: password, Project: project}
	}
	credential := func(id, secret string) api.Credentials {
		return api.Credentials{CredentialID: id, CredentialSecret: secret}
	}
	return []row{
		{"a login is answered with a token, its end, and where the services are", func(p *probe) {
			p.call(p.accounts.member.User, "account")
			p.call(p.accounts.credential.CredentialID, "credential")
			p.login("with a password", p.accounts.member)
			p.login("with a credential", p.accounts.credential)
		}},
		{"logging in is refused", func(p *probe) {
			a := p.accounts
			refused(p, "with a wrong password", password(a.member.User, "wrong", a.member.Project))
			refused(p, "as nobody", password("nobody", "wrong", a.member.Project))
			refused(p, "to a project that is not", password(a.member.User, a.member.Password, "nowhere"))
			refused(p, "to the project of others", password(a.member.User, a.member.Password, a.other.Project))
			refused(p, "with a wrong secret", credential(a.credential.CredentialID, "wrong"))
			refused(p, "with a credential that is not", credential("0123456789abcdef0123456789abcdef", "wrong"))
		}},
		{"a request without a token, and with a bad one, is refused", func(p *probe) {
			for _, token := range []string{"", "bad"} {
				nobody := *p.member
				nobody.Token = token
				for _, service := range []string{"block-storage", "compute"} {
					got := p.as(&nobody).send(http.MethodGet, p.member.Services[service]+"/limits", "", nil)
					p.write(fmt.Sprintf("token %q for %s", token, service), got, nil)
				}
			}
		}},
		{"a token that was revoked is refused", func(p *probe) {
			session, err := api.Login(p.Context(), p.identity, p.accounts.member)
			if err != nil {
				p.Fatal(err)
			}
			old := p.as(session)
			// Not used before: a service that has seen a token keeps it for minutes.
			got, err := session.Revoke(p.Context())
			if err != nil {
				p.Fatal(err)
			}
			p.note("revoke: %d", got.Status)
			p.note("after, cinder: %d", old.volume("70", http.MethodGet, "/volumes", nil).Status)
			p.note("after, nova: %d", old.compute("60", http.MethodGet, "/servers", nil).Status)
		}},
		{"an application credential gives the member's project", func(p *probe) {
			p.note("project %s", p.credential.ProjectID)
			got := p.as(p.credential).volume("70", http.MethodGet, "/volumes", nil)
			p.write("list as credential", got, nil)
		}},
		{"the project in the address has to be the token's", func(p *probe) {
			base := strings.Replace(p.member.Services["block-storage"], p.member.ProjectID, p.other.ProjectID, 1)
			p.write("GET volumes of others", p.send(http.MethodGet, base+"/volumes", "volume 3.70", nil), nil)
		}},
		{"others see nothing of a volume, a snapshot, a backup, a server", func(p *probe) {
			v := p.newVolume("volume", nil)
			s := p.newCopy("snapshot", "snapshot", v, nil)
			b := p.newCopy("backup", "backup", v, nil)
			other := p.as(p.other)
			for _, path := range []string{"/volumes/" + v, "/snapshots/" + s, "/backups/" + b} {
				other.Volume("70", http.MethodGet, path, nil)
				other.Volume("70", http.MethodDelete, path, nil)
			}
			other.Volume("70", http.MethodPost, "/volumes/"+v+"/action", `{"os-extend": {"new_size": 2}}`)
			other.Volume("70", http.MethodGet, "/volumes/detail", nil)
			other.Compute("60", http.MethodGet, "/servers/"+p.servers["node1"], nil)
			other.Compute("60", http.MethodGet, attachments(p.servers["node1"]), nil)
			other.Compute("60", http.MethodPost, attachments(p.servers["node1"]), object{"volumeAttachment": object{"volumeId": v}})
			p.take(other)
		}},
	}
}

// token asks for a token and writes nothing down.
func (p *probe) token(account api.Credentials) answer {
	p.Helper()
	return p.as(api.Anonymous(p.identity)).send(http.MethodPost, p.identity+"/auth/tokens", "", account.Request())
}

// login logs in and writes down what came back.
func (p *probe) login(how string, account api.Credentials) {
	p.Helper()
	got := p.token(account)
	p.note("a token: %t", got.Header.Get("X-Subject-Token") != "")
	for _, when := range []string{"issued_at", "expires_at"} {
		p.note("%s is a whole second: %t", when, strings.HasSuffix(got.text("token", when), ".000000Z"))
	}
	body, _ := got.body.(map[string]any)
	token, _ := body["token"].(map[string]any)
	if credential, ok := token["application_credential"].(map[string]any); ok {
		loosen(credential, []string{"name"})
	}
	services, _ := token["catalog"].([]any)
	for _, kind := range []string{"block-storage", "volumev3", "compute"} {
		p.note("%s: %s", kind, endpoints(services, kind))
	}
	// Who may do what, and what else there is, differs from cloud to cloud.
	p.write("log in "+how, got, []string{"audit_ids", "roles", "catalog"})
}

// endpoints returns those of a service in a catalog, in an order of their own.
func endpoints(services []any, kind string) string {
	var all []string
	for _, service := range services {
		s, _ := service.(map[string]any)
		if s["type"] != kind {
			continue
		}
		list, _ := s["endpoints"].([]any)
		for _, endpoint := range list {
			e, _ := endpoint.(map[string]any)
			names := slices.Sorted(maps.Keys(e))
			all = append(all, fmt.Sprintf("%v %v in %v (%s)", e["interface"], e["url"], e["region"], strings.Join(names, " ")))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// shape returns an answer's body if it holds key, and otherwise no more than
// that it does not.
func shape(a answer, key string) string {
	if m, ok := a.body.(map[string]any); ok && m[key] != nil {
		return string(a.Text)
	}
	return "no " + key
}
