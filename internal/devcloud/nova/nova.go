// Package nova is the compute service of the development cloud: the HTTP side
// of Nova v2.1, as far as servers, their volumes and their history go.
package nova

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// Authenticator returns who sends a request.
type Authenticator func(r *rest.Request) (state.Call, error)

// Service is the compute service.
type Service struct {
	cloud *state.Cloud
	auth  Authenticator
}

// New returns the compute service of a cloud.
func New(cloud *state.Cloud, auth Authenticator) *Service {
	return &Service{cloud: cloud, auth: auth}
}

type request struct {
	*rest.Request
	state.Call
	version rest.Microversion
}

type handler func(r *request) (*rest.Response, error)

func lowest() rest.Microversion { return rest.Microversion{Major: 2, Minor: 1} }

func (s *Service) highest() rest.Microversion {
	v, err := rest.ParseMicroversion(s.cloud.Behaviour().ComputeVersion)
	if err != nil {
		return rest.Microversion{Major: 2, Minor: 93}
	}
	return v
}

// errorType is the type of Nova's own errors; its other answers, and those of
// the filters before it, name no character set.
const errorType = "application/json; charset=UTF-8"

// checked makes a handler that knows no version of those that have a token.
func (s *Service) checked(h rest.Handler) rest.Handler {
	return func(r *rest.Request) (*rest.Response, error) {
		if _, err := s.auth(r); err != nil {
			return nil, err
		}
		return h(r)
	}
}

// wrap checks the token and the version of a request.
func (s *Service) wrap(h handler) rest.Handler {
	return func(r *rest.Request) (*rest.Response, error) {
		call, err := s.auth(r)
		if err != nil {
			return nil, err
		}
		version, err := rest.Negotiate(r.Header, "compute", "X-OpenStack-Nova-API-Version", lowest(), s.highest())
		if errors.Is(err, rest.ErrFormat) {
			return &rest.Response{Header: http.Header{"Content-Type": {errorType}}}, err
		}
		var resp *rest.Response
		if err == nil {
			resp, err = h(&request{Request: r, Call: call, version: version})
		}
		if resp == nil {
			resp = &rest.Response{}
		}
		if resp.Header == nil {
			resp.Header = http.Header{}
		}
		switch {
		case err != nil:
			resp.Header.Set("Content-Type", errorType)
		case resp.Body == nil:
			resp.Header.Set("Content-Type", "application/json") // also where there is no body
		}
		resp.Header.Set("OpenStack-API-Version", "compute "+version.String())
		resp.Header.Set("X-OpenStack-Nova-API-Version", version.String())
		resp.Header.Set("X-Compute-Request-Id", r.ID)
		resp.Header["Vary"] = []string{"OpenStack-API-Version", "X-OpenStack-Nova-API-Version"}
		return resp, err
	}
}

// Routes returns what the service answers.
func (s *Service) Routes() []rest.Route {
	routes := []rest.Route{
		{Pattern: "GET /compute/{$}", Operation: "version.get", Handle: s.versions},
		{Pattern: "GET /compute", Operation: "version.get", Handle: s.versions},
		{Pattern: "GET /compute/v2.1/{$}", Operation: "version.get", Handle: s.currentVersion},
		{Pattern: "GET /compute/v2.1", Operation: "version.get", Handle: s.currentVersion},
		{Pattern: "/compute/", Operation: "unknown", Handle: s.checked(rest.NoRoute)},
	}
	add := func(method, path, operation string, h handler) {
		routes = append(routes, rest.Route{Pattern: method + " /compute/v2.1" + path, Operation: operation, Handle: s.wrap(h)})
	}
	slow := func(method, path, operation string, h handler) {
		routes = append(routes, rest.Route{Pattern: method + " /compute/v2.1" + path, Operation: operation, Slow: true, Handle: s.wrap(h)})
	}
	s.serverRoutes(add)
	add("GET", "/servers/{id}/os-volume_attachments", "attachment.list", s.listAttachments)
	add("GET", "/servers/{id}/os-volume_attachments/{volume}", "attachment.get", s.getAttachment)
	slow("POST", "/servers/{id}/os-volume_attachments", "attachment.create", s.attach)
	slow("DELETE", "/servers/{id}/os-volume_attachments/{volume}", "attachment.delete", s.detach)
	add("GET", "/os-services", "compute-service.list", s.services)
	add("GET", "/os-availability-zone", "server-zone.list", s.zones)
	add("GET", "/os-availability-zone/detail", "server-zone.list", s.zones)
	add("GET", "/servers/{id}/os-instance-actions", "action.list", s.listActions)
	add("GET", "/servers/{id}/os-instance-actions/{request}", "action.get", s.getAction)
	routes = append(routes, rest.Route{
		Pattern: "POST /compute/v2.1/servers/{id}/action", OperationOf: serverOperation, Handle: s.wrap(s.serverAction),
	})
	for i := range routes {
		routes[i].Errors = rest.Classic
	}
	return routes
}

func accepted(body any) (*rest.Response, error) { return rest.Reply(http.StatusAccepted, body) }

func ok(body any) (*rest.Response, error) { return rest.Reply(http.StatusOK, body) }

func isUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

func (s *Service) version(base string) rest.Object {
	return rest.Object{
		"id": "v2.1", "status": "CURRENT", "version": s.highest().String(), "min_version": lowest().String(), "updated": "2013-07-23T11:33:21Z",
		"links": []rest.Object{{"rel": "self", "href": base + "/compute/v2.1/"}},
	}
}

func (s *Service) versions(r *rest.Request) (*rest.Response, error) {
	old := rest.Object{
		"id": "v2.0", "status": "SUPPORTED", "version": "", "min_version": "", "updated": "2011-01-21T11:33:21Z",
		"links": []rest.Object{{"rel": "self", "href": r.Base() + "/compute/v2/"}},
	}
	return ok(rest.Object{"versions": []rest.Object{old, s.version(r.Base())}})
}

func (s *Service) currentVersion(r *rest.Request) (*rest.Response, error) {
	v := s.version(r.Base())
	v["links"] = append(v["links"].([]rest.Object), rest.Object{"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"})
	v["media-types"] = []rest.Object{{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}}
	return ok(rest.Object{"version": v})
}

// zones lists the zones as an ordinary user sees them, without hosts.
func (s *Service) zones(*request) (*rest.Response, error) {
	list := []rest.Object{}
	for _, zone := range s.cloud.Zones() {
		list = append(list, rest.Object{"zoneName": zone, "zoneState": rest.Object{"available": true}, "hosts": nil})
	}
	return ok(rest.Object{"availabilityZoneInfo": list})
}

// services lists the computes, one for each server and named like it.
func (s *Service) services(r *request) (*rest.Response, error) {
	if !r.Admin {
		return nil, rest.Forbidden("Policy doesn't allow os_compute_api:os-services:list to be performed.")
	}
	list := []rest.Object{}
	for _, x := range s.cloud.Servers(r.Call, true, nil) {
		view := rest.Object{
			"id": x.ID, "binary": "nova-compute", "host": x.Key, "zone": x.Zone, "status": "enabled", "state": "up", "disabled_reason": nil,
			"updated_at": rest.Micros(time.Now()), "forced_down": false,
		}
		if s.cloud.ComputeDown(&x) {
			view["state"], view["updated_at"] = "down", rest.Micros(x.HungAt)
		}
		list = append(list, view)
	}
	return ok(rest.Object{"services": list})
}

// actionOf returns the only key of an action's body.
func actionOf(body []byte) string {
	fields, err := rest.Fields(body)
	if err != nil || len(fields) != 1 {
		return ""
	}
	return fields[0].Name
}

func serverOperation(r *rest.Request) string {
	name := strings.TrimPrefix(actionOf(r.Body), "os-")
	switch name {
	case "start", "stop", "lock", "unlock", "pause", "unpause", "suspend", "resume", "resetState", "reboot", "rescue", "unrescue", "shelve", "unshelve":
		return "server." + strings.ToLower(name)
	}
	return "server.action"
}
