// Package keystone is the identity service of the development cloud: tokens by
// password, application credential and token, the catalog, and the check of
// tokens for the other services.
package keystone

import (
	"net/http"
	"sync"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// Region is the only region of the cloud.
const Region = "RegionOne"

// Service is the identity service. Tokens are in memory only: after a restart
// clients have to ask for new ones, as after a rotation of keys.
type Service struct {
	cloud *state.Cloud

	mu     sync.Mutex
	tokens map[string]token
}

type token struct {
	user       state.User
	project    state.Project // zero for an unscoped token
	methods    []string
	credential state.Credential // zero for one that is not by application credential
	issued     time.Time
	expires    time.Time
	auditID    string
}

// delegated tells whether a token is by application credential.
func (t token) delegated() bool { return t.credential.ID != "" }

// New returns the identity service of a cloud.
func New(cloud *state.Cloud) *Service {
	return &Service{cloud: cloud, tokens: map[string]token{}}
}

// Routes returns what the service answers.
func (s *Service) Routes() []rest.Route {
	routes := []rest.Route{
		{Pattern: "GET /identity/{$}", Operation: "version.get", Handle: s.versions},
		{Pattern: "GET /identity", Operation: "version.get", Handle: s.versions},
		{Pattern: "GET /identity/v3/{$}", Operation: "version.get", Handle: s.version},
		{Pattern: "GET /identity/v3", Operation: "version.get", Handle: s.version},
		{Pattern: "POST /identity/v3/auth/tokens", Operation: "token.create", Handle: s.create},
		{Pattern: "GET /identity/v3/auth/tokens", Operation: "token.get", Handle: s.show},
		{Pattern: "DELETE /identity/v3/auth/tokens", Operation: "token.delete", Handle: s.revoke},
		{Pattern: "GET /identity/v3/auth/catalog", Operation: "catalog.get", Handle: s.catalogOnly},
		{Pattern: "GET /identity/v3/users/{user}/application_credentials/{id}", Operation: "application_credential.get", Handle: s.appCredential},
		{Pattern: "GET /identity/v3/auth/projects", Operation: "project.list", Handle: s.projects},
		{Pattern: "/identity/", Operation: "unknown", Handle: func(*rest.Request) (*rest.Response, error) {
			return nil, rest.NotFound("(http.client) The resource could not be found.")
		}},
	}
	for i := range routes {
		routes[i].Errors = rest.Identity
	}
	return routes
}

// Authenticate returns who sends a request with a token that is good for a
// project.
func (s *Service) Authenticate(r *rest.Request) (state.Call, error) {
	t, ok := s.lookup(r.Header.Get("X-Auth-Token"))
	if !ok || t.project.ID == "" {
		return state.Call{}, rest.Unauthorized()
	}
	return state.Call{
		RequestID: r.ID, UserID: t.user.ID, ProjectID: t.project.ID, Admin: t.user.Admin(), Delegated: t.delegated(), Fault: r.Fault,
	}, nil
}

// ExpireAll makes every token invalid, as a rotation of keys does.
func (s *Service) ExpireAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

func (s *Service) lookup(id string) (token, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tokens[id]
	if ok && !time.Now().Before(t.expires) {
		delete(s.tokens, id)
		ok = false
	}
	return t, ok
}

func (s *Service) keep(id string, t token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens)%256 == 255 {
		for old, o := range s.tokens {
			if !time.Now().Before(o.expires) {
				delete(s.tokens, old)
			}
		}
	}
	s.tokens[id] = t
}

func (s *Service) show(r *rest.Request) (*rest.Response, error) {
	if _, ok := s.lookup(r.Header.Get("X-Auth-Token")); !ok {
		return nil, rest.Unauthorized()
	}
	subject := r.Header.Get("X-Subject-Token")
	t, ok := s.lookup(subject)
	if !ok {
		return nil, rest.NotFound("Could not find token: %s.", subject)
	}
	return &rest.Response{Status: http.StatusOK, Header: http.Header{"X-Subject-Token": {subject}}, Body: s.body(r, t)}, nil
}

func (s *Service) revoke(r *rest.Request) (*rest.Response, error) {
	if _, ok := s.lookup(r.Header.Get("X-Auth-Token")); !ok {
		return nil, rest.Unauthorized()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, r.Header.Get("X-Subject-Token"))
	return &rest.Response{Status: http.StatusNoContent}, nil
}

func (s *Service) catalogOnly(r *rest.Request) (*rest.Response, error) {
	t, ok := s.lookup(r.Header.Get("X-Auth-Token"))
	if !ok {
		return nil, rest.Unauthorized()
	}
	return rest.Reply(http.StatusOK, rest.Object{"catalog": catalog(r.Base(), t.project.ID), "links": rest.Object{"self": r.Base() + "/identity/v3/auth/catalog"}})
}

func (s *Service) projects(r *rest.Request) (*rest.Response, error) {
	t, ok := s.lookup(r.Header.Get("X-Auth-Token"))
	if !ok {
		return nil, rest.Unauthorized()
	}
	p, _ := s.cloud.Accounts().Project(t.user.ProjectID)
	return rest.Reply(http.StatusOK, rest.Object{"projects": []rest.Object{{"id": p.ID, "name": p.Name, "domain_id": "default", "enabled": true}}})
}

func versionBody(base string) rest.Object {
	return rest.Object{
		"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links":       []rest.Object{{"rel": "self", "href": base + "/identity/v3/"}},
		"media-types": []rest.Object{{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
	}
}

func (s *Service) versions(r *rest.Request) (*rest.Response, error) {
	return rest.Reply(http.StatusMultipleChoices, rest.Object{"versions": rest.Object{"values": []rest.Object{versionBody(r.Base())}}})
}

func (s *Service) version(r *rest.Request) (*rest.Response, error) {
	return rest.Reply(http.StatusOK, rest.Object{"version": versionBody(r.Base())})
}
