// Package cinder is the volume service of the development cloud: the HTTP side
// of Cinder v3 with its schemas, microversions, views, filters and paging.
package cinder

import (
	"errors"
	"net/http"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// Authenticator returns who sends a request.
type Authenticator func(r *rest.Request) (state.Call, error)

// Service is the volume service.
type Service struct {
	cloud *state.Cloud
	auth  Authenticator
}

// New returns the volume service of a cloud.
func New(cloud *state.Cloud, auth Authenticator) *Service {
	return &Service{cloud: cloud, auth: auth}
}

// request is a request that has passed authentication and negotiation.
type request struct {
	*rest.Request
	state.Call
	version rest.Microversion
	project string // as in the URL
}

// handler answers a request that has passed authentication and negotiation.
type handler func(r *request) (*rest.Response, error)

func lowest() rest.Microversion { return rest.Microversion{Major: 3} }

func (s *Service) highest() rest.Microversion {
	v, err := rest.ParseMicroversion(s.cloud.Behaviour().VolumeVersion)
	if err != nil {
		return rest.Microversion{Major: 3, Minor: 70}
	}
	return v
}

// htmlType is the type of answers that Cinder has no serializer for.
const htmlType = "text/html; charset=UTF-8"

// wrap checks the token, the version and the project of a request, in the
// order of Cinder's own filters.
func (s *Service) wrap(h handler) rest.Handler {
	return func(r *rest.Request) (*rest.Response, error) {
		call, err := s.auth(r)
		if err != nil {
			return nil, err
		}
		r.LowerIDs("id")
		if !rest.Names(r.Header, "volume") {
			return nil, rest.Malformed()
		}
		version, err := rest.Negotiate(r.Header, "volume", "", lowest(), s.highest())
		if err != nil && version.Major < lowest().Major || errors.Is(err, rest.ErrFormat) {
			return nil, err
		}
		project := r.PathValue("project")
		var resp *rest.Response
		switch {
		case err != nil:
		case project != "" && project != call.ProjectID:
			err = rest.BadRequest("Malformed request url")
		default:
			resp, err = h(&request{Request: r, Call: call, version: version, project: project})
		}
		if resp == nil {
			resp = &rest.Response{}
		}
		if resp.Header == nil {
			resp.Header = http.Header{}
		}
		resp.Header.Set("OpenStack-API-Version", "volume "+version.String())
		resp.Header.Set("Vary", "OpenStack-API-Version")
		if err == nil && resp.Body == nil && r.Method == http.MethodDelete && resp.Header.Get("Content-Type") == "" {
			resp.Header.Set("Content-Type", htmlType)
		}
		return resp, err
	}
}

// checked makes a handler that knows no version of those that have a token.
func (s *Service) checked(h rest.Handler) rest.Handler {
	return func(r *rest.Request) (*rest.Response, error) {
		if _, err := s.auth(r); err != nil {
			return nil, err
		}
		return h(r)
	}
}

// since makes a handler that exists only from a microversion on.
func since(minor int, h handler) handler {
	return func(r *request) (*rest.Response, error) {
		if !r.version.AtLeast(minor) {
			return nil, rest.NotFound("The resource could not be found.")
		}
		return h(r)
	}
}

// admin makes a handler that only administrators may use; policy is its name.
func admin(policy string, h handler) handler {
	return func(r *request) (*rest.Response, error) {
		if !r.Admin {
			return nil, denied(policy)
		}
		return h(r)
	}
}

func denied(policy string) error {
	return rest.Forbidden("Policy doesn't allow %s to be performed.", policy)
}

func accepted(body any) (*rest.Response, error) { return rest.Reply(http.StatusAccepted, body) }

func ok(body any) (*rest.Response, error) { return rest.Reply(http.StatusOK, body) }

// Routes returns what the service answers.
func (s *Service) Routes() []rest.Route {
	routes := []rest.Route{
		{Pattern: "GET /volume/{$}", Operation: "version.get", Handle: s.versions},
		{Pattern: "GET /volume", Operation: "version.get", Handle: s.versions},
		{Pattern: "GET /volume/v3/{$}", Operation: "version.get", Handle: s.version},
		{Pattern: "GET /volume/v3", Operation: "version.get", Handle: s.version},
		{Pattern: "/volume/", Operation: "unknown", Handle: s.checked(rest.NoRoute)},
	}
	add := func(method, path, operation string, h handler) {
		routes = append(routes, rest.Route{Pattern: method + " /volume/v3/{project}" + path, Operation: operation, Handle: s.wrap(h)})
	}
	s.volumeRoutes(add)
	s.snapshotRoutes(add)
	s.backupRoutes(add)
	s.typeRoutes(add)
	s.otherRoutes(add)
	routes = append(routes, rest.Route{
		Pattern: "POST /volume/v3/{project}/volumes/{id}/action", OperationOf: volumeOperation, Handle: s.wrap(s.volumeAction),
	})
	for i := range routes {
		routes[i].Errors = rest.Classic
	}
	return routes
}

type adder func(method, path, operation string, h handler)

func (s *Service) versionBody(base string) rest.Object {
	return rest.Object{
		"id": "v3.0", "status": "CURRENT", "version": s.highest().String(), "min_version": lowest().String(), "updated": "2022-08-31T00:00:00Z",
		"links": []rest.Object{
			{"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
			{"rel": "self", "href": base + "/volume/v3/"},
		},
		"media-types": []rest.Object{{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}},
	}
}

func (s *Service) versions(r *rest.Request) (*rest.Response, error) {
	return rest.Reply(http.StatusMultipleChoices, rest.Object{"versions": []rest.Object{s.versionBody(r.Base())}})
}

func (s *Service) version(r *rest.Request) (*rest.Response, error) {
	return rest.Reply(http.StatusOK, rest.Object{"versions": []rest.Object{s.versionBody(r.Base())}})
}

type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// links are the addresses of one thing.
func (r *request) links(collection, id string) []link {
	return []link{
		{"self", r.Base() + "/volume/v3/" + r.project + "/" + collection + "/" + id},
		{"bookmark", r.Base() + "/volume/" + r.project + "/" + collection + "/" + id},
	}
}
