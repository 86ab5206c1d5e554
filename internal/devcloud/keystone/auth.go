package keystone

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

type named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type userRef struct {
	named
	Password string `json:"password"`
	Domain   *named `json:"domain"`
}

type authRequest struct {
	Auth *struct {
		Identity *struct {
			Methods  []string `json:"methods"`
			Password *struct {
				User userRef `json:"user"`
			} `json:"password"`
			Token *struct {
				ID string `json:"id"`
			} `json:"token"`
			Credential *struct {
				named
				Secret string   `json:"secret"`
				User   *userRef `json:"user"`
			} `json:"application_credential"`
		} `json:"identity"`
		Scope json.RawMessage `json:"scope"`
	} `json:"auth"`
}

type scope struct {
	Project *struct {
		named
		Domain *named `json:"domain"`
	} `json:"project"`
}

// inDefault reports whether a reference to a domain means the only one there is.
func inDefault(d *named) bool {
	return d != nil && (d.ID == "default" || d.ID == "" && strings.EqualFold(d.Name, "Default"))
}

// findUser finds a user by id, or by name within the domain.
func (s *Service) findUser(u userRef) (state.User, bool) {
	key := u.ID
	if key == "" {
		if !inDefault(u.Domain) {
			return state.User{}, false
		}
		key = u.Name
	}
	user, ok := s.cloud.Accounts().User(key)
	return user, ok && (u.ID == "" && user.Name == key || u.ID != "" && user.ID == key)
}

func (s *Service) create(r *rest.Request) (*rest.Response, error) {
	var req authRequest
	if err := json.Unmarshal(r.Body, &req); err != nil || req.Auth == nil || req.Auth.Identity == nil || len(req.Auth.Identity.Methods) == 0 {
		return nil, rest.BadRequest("Expecting to find auth in request body. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
	}
	t, err := s.authenticate(req)
	if err != nil {
		return nil, err
	}
	if err := s.scope(&t, req.Auth.Scope); err != nil {
		return nil, err
	}
	t.issued = time.Now()
	if t.expires.IsZero() {
		t.expires = t.issued.Add(time.Duration(s.cloud.Behaviour().TokenLifetime))
	}
	t.auditID = random(16)
	id := "gAAAAA" + random(96)
	s.keep(id, t)
	return &rest.Response{Status: http.StatusCreated, Header: http.Header{"X-Subject-Token": {id}, "Vary": {"X-Auth-Token"}}, Body: s.body(r, t)}, nil
}

// authenticate checks the credentials of one method.
func (s *Service) authenticate(req authRequest) (token, error) {
	identity := req.Auth.Identity
	t := token{methods: identity.Methods}
	switch {
	case slices.Contains(identity.Methods, "password") && identity.Password != nil:
		user, ok := s.findUser(identity.Password.User)
		if !ok || !state.Matches(identity.Password.User.Password, user.Password) || state.Ended(s.cloud.Behaviour().PasswordsExpire) {
			return t, rest.Unauthorized()
		}
		t.user = user
	case slices.Contains(identity.Methods, "application_credential") && identity.Credential != nil:
		return s.byCredential(t, identity.Credential.named, identity.Credential.Secret, identity.Credential.User)
	case slices.Contains(identity.Methods, "token") && identity.Token != nil:
		old, ok := s.lookup(identity.Token.ID)
		if !ok || old.delegated() {
			return t, rest.Unauthorized()
		}
		t.user, t.expires = old.user, old.expires
		t.methods = append([]string{"token"}, old.methods...)
	default:
		return t, rest.Unauthorized()
	}
	return t, nil
}

func (s *Service) byCredential(t token, ref named, secret string, owner *userRef) (token, error) {
	accounts := s.cloud.Accounts()
	userID := ""
	if ref.ID == "" && owner != nil {
		user, ok := s.findUser(*owner)
		if !ok {
			return t, rest.Unauthorized()
		}
		userID = user.ID
	}
	cred, ok := accounts.Credential(ref.ID, ref.Name, userID)
	if !ok && ref.ID != "" {
		return t, rest.NotFound("Could not find Application Credential: %s.", ref.ID)
	}
	if !ok || !state.Matches(secret, cred.Secret) || state.Ended(s.cloud.Behaviour().CredentialsExpire) {
		return t, rest.Unauthorized()
	}
	t.user, _ = accounts.User(cred.UserID)
	t.project, _ = accounts.Project(t.user.ProjectID)
	t.credential = cred
	return t, nil
}

// scope chooses the project of a token. One by application credential has its own.
func (s *Service) scope(t *token, raw json.RawMessage) error {
	if rest.IsNull(raw) || string(raw) == `"unscoped"` {
		return nil
	}
	var sc scope
	if err := json.Unmarshal(raw, &sc); err != nil {
		return rest.BadRequest("Invalid scope.")
	}
	if t.delegated() {
		return rest.Unauthorized()
	}
	if sc.Project == nil {
		return nil
	}
	key := sc.Project.ID
	if key == "" {
		if !inDefault(sc.Project.Domain) {
			return rest.Unauthorized()
		}
		key = sc.Project.Name
	}
	p, ok := s.cloud.Accounts().Project(key)
	if !ok || p.ID != t.user.ProjectID && !t.user.Admin() {
		return rest.Unauthorized()
	}
	t.project = p
	return nil
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// body is how a token is shown.
func (s *Service) body(r *rest.Request, t token) rest.Object {
	domain := rest.Object{"id": "default", "name": "Default"}
	const wholeSecond = "2006-01-02T15:04:05.000000Z" // a token has no room for more
	body := rest.Object{
		"methods": t.methods, "issued_at": t.issued.UTC().Truncate(time.Second).Format(wholeSecond),
		"expires_at": t.expires.UTC().Truncate(time.Second).Format(wholeSecond), "audit_ids": []string{t.auditID},
		"user": rest.Object{"id": t.user.ID, "name": t.user.Name, "domain": domain, "password_expires_at": ending(s.cloud.Behaviour().PasswordsExpire)},
	}
	if t.delegated() {
		body["application_credential"] = rest.Object{"id": t.credential.ID, "name": t.credential.Name, "restricted": true}
	}
	if t.project.ID != "" {
		roles := make([]rest.Object, len(t.user.Roles))
		for i, name := range t.user.Roles {
			roles[i] = rest.Object{"id": "role-" + name, "name": name}
		}
		body["roles"] = roles
		body["is_domain"] = false
		body["project"] = rest.Object{"id": t.project.ID, "name": t.project.Name, "domain": domain}
		body["catalog"] = catalog(r.Base(), t.project.ID)
	}
	return rest.Object{"token": body}
}

// ending is how the end of credentials is shown: in UTC, without saying so.
func ending(end time.Time) any {
	if end.IsZero() {
		return nil
	}
	return end.UTC().Format("2006-01-02T15:04:05.000000")
}

// appCredential shows an application credential to the user whose it is.
func (s *Service) appCredential(r *rest.Request) (*rest.Response, error) {
	t, ok := s.lookup(r.Header.Get("X-Auth-Token"))
	if !ok {
		return nil, rest.Unauthorized()
	}
	if user := r.PathValue("user"); user != t.user.ID && !t.user.Admin() {
		return nil, rest.Forbidden("You are not authorized to perform the requested action: identity:get_application_credential.")
	}
	cred, ok := s.cloud.Accounts().Credential(r.PathValue("id"), "", "")
	if !ok {
		return nil, rest.NotFound("Could not find Application Credential: %s.", r.PathValue("id"))
	}
	owner, _ := s.cloud.Accounts().User(cred.UserID)
	roles := make([]rest.Object, len(owner.Roles))
	for i, name := range owner.Roles {
		roles[i] = rest.Object{"id": "role-" + name, "name": name, "domain_id": nil}
	}
	return rest.Reply(http.StatusOK, rest.Object{"application_credential": rest.Object{
		"id": cred.ID, "name": cred.Name, "description": nil, "project_id": owner.ProjectID, "system": nil, "roles": roles,
		"expires_at": ending(s.cloud.Behaviour().CredentialsExpire), "unrestricted": false,
		"links": rest.Object{"self": r.Base() + "/identity/v3/application_credentials/" + cred.ID},
	}})
}

// catalog lists the services under the address that the client used.
func catalog(base, projectID string) []rest.Object {
	var list []rest.Object
	for _, service := range []struct{ kind, name, path string }{
		{"identity", "keystone", "/identity"},
		{"volumev3", "cinderv3", "/volume/v3/" + projectID},
		{"block-storage", "cinder", "/volume/v3/" + projectID},
		{"compute", "nova", "/compute/v2.1"},
	} {
		var endpoints []rest.Object
		for _, kind := range []string{"public", "internal", "admin"} {
			endpoints = append(endpoints, rest.Object{
				"id": service.name + "-" + kind, "interface": kind, "region": Region, "region_id": Region, "url": base + service.path,
			})
		}
		list = append(list, rest.Object{"id": service.name, "type": service.kind, "name": service.name, "endpoints": endpoints})
	}
	return list
}
