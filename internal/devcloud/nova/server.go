package nova

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

func (s *Service) serverRoutes(add func(method, path, operation string, h handler)) {
	add("POST", "/servers", "server.create", s.createServer)
	add("GET", "/servers", "server.list", s.listServers(false))
	add("GET", "/servers/detail", "server.list", s.listServers(true))
	add("GET", "/servers/{id}", "server.get", s.getServer)
	add("PUT", "/servers/{id}", "server.update", s.updateServer)
	add("DELETE", "/servers/{id}", "server.delete", s.deleteServer)
}

// maxPage is Nova's own limit of a list.
const maxPage = 1000

func (s *Service) getServer(r *request) (*rest.Response, error) {
	server, err := s.cloud.Server(r.Call, rest.LowerID(r.PathValue("id")))
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"server": r.viewServer(server)})
}

func (s *Service) deleteServer(r *request) (*rest.Response, error) {
	return &rest.Response{Status: http.StatusNoContent}, s.cloud.DeleteServer(r.Call, r.PathValue("id"))
}

type createBody struct {
	Name             *string           `json:"name"`
	Image            string            `json:"imageRef"`
	Flavor           json.RawMessage   `json:"flavorRef"`
	AvailabilityZone string            `json:"availability_zone"`
	Metadata         map[string]string `json:"metadata"`
}

func (s *Service) createServer(r *request) (*rest.Response, error) {
	raw := rest.Member(r.Body, "server")
	var body createBody
	if raw == nil || json.Unmarshal(raw, &body) != nil {
		return nil, rest.BadRequest("Malformed request body")
	}
	for _, missing := range []struct {
		name string
		is   bool
	}{{"name", body.Name == nil}, {"flavorRef", body.Flavor == nil}} {
		if missing.is {
			return nil, rest.InvalidField("server", raw, "'%s' is a required property", missing.name)
		}
	}
	if n := utf8.RuneCountInString(*body.Name); n == 0 || n > 255 {
		return nil, rest.InvalidField("name", rest.Member(raw, "name"), "%s is too long", rest.Python(rest.Member(raw, "name")))
	}
	var flavor any
	if json.Unmarshal(body.Flavor, &flavor) != nil {
		return nil, rest.BadRequest("Malformed request body")
	}
	server, err := s.cloud.CreateServer(r.Call, state.ServerSpec{
		Name: *body.Name, Zone: body.AvailabilityZone, ImageID: body.Image, FlavorID: fmt.Sprint(flavor), Metadata: body.Metadata,
	})
	if err != nil {
		return nil, err
	}
	return accepted(rest.Object{"server": rest.Object{
		"id": server.ID, "links": links(r, server.ID), "OS-DCF:diskConfig": "MANUAL",
		"security_groups": []rest.Object{{"name": "default"}}, "adminPass": "not-used",
	}})
}

func (s *Service) updateServer(r *request) (*rest.Response, error) {
	raw := rest.Member(r.Body, "server")
	var body struct {
		Name *string `json:"name"`
	}
	if raw == nil || json.Unmarshal(raw, &body) != nil {
		return nil, rest.BadRequest("Malformed request body")
	}
	server, err := s.cloud.ChangeServer(r.Call, r.PathValue("id"), func(x *state.Server) error {
		if body.Name != nil {
			x.Name = *body.Name
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"server": r.viewServer(server)})
}

// serverChange is what an action makes of a server.
type serverChange struct {
	// method is Nova's name of the action in its refusals, task its state while it
	// is done, status what it leads to.
	method, task, status string
}

// serverChanges are the actions that change a server's status.
func serverChanges() map[string]serverChange {
	return map[string]serverChange{
		"os-start": {"start", "powering-on", "ACTIVE"}, "os-stop": {"stop", "powering-off", "SHUTOFF"},
		"pause": {"pause", "pausing", "PAUSED"}, "unpause": {"unpause", "unpausing", "ACTIVE"},
		"suspend": {"suspend", "suspending", "SUSPENDED"}, "resume": {"resume", "resuming", "ACTIVE"},
		"rescue": {"rescue", "rescuing", "RESCUE"}, "unrescue": {"unrescue", "unrescuing", "ACTIVE"},
		"shelve": {"shelve", "shelving", "SHELVED_OFFLOADED"}, "unshelve": {"unshelve", "unshelving", "ACTIVE"},
	}
}

// serverAction answers POST …/servers/{id}/action.
func (s *Service) serverAction(r *request) (*rest.Response, error) {
	name := actionOf(r.Body)
	id, done := rest.LowerID(r.PathValue("id")), &rest.Response{Status: http.StatusAccepted}
	var body struct{ State, Type string }
	_ = json.Unmarshal(rest.Member(r.Body, name), &body) // most actions have none
	switch name {
	case "lock", "unlock":
		_, err := s.cloud.ChangeServer(r.Call, id, func(x *state.Server) error { x.Locked = name == "lock"; return nil })
		return done, err
	case "os-resetState":
		if !r.Admin {
			return nil, rest.Forbidden("Policy doesn't allow os_compute_api:os-admin-actions:reset_state to be performed.")
		}
		_, err := s.cloud.ChangeServer(r.Call, id, func(x *state.Server) error {
			x.Status, x.TaskState = "ERROR", ""
			if body.State == "active" {
				x.Status = "ACTIVE"
			}
			return nil
		})
		return done, err
	}
	change, known := serverChanges()[name]
	if name == "reboot" {
		change, known = serverChange{"reboot", "rebooting", "ACTIVE"}, true
		if body.Type == "HARD" {
			change.task = "rebooting_hard"
		}
	}
	if !known {
		return nil, rest.BadRequest("There is no such action: %s", name)
	}
	if name == "rescue" {
		done = &rest.Response{Status: http.StatusOK, Body: rest.Object{"adminPass": "not-used"}}
	}
	return done, s.cloud.StartAction(r.Call, id, change.method, change.task, change.status)
}

// serverFilter turns the query into a condition. Nova ignores what it does not
// know, and takes name for a regular expression.
func serverFilter(query url.Values) (func(*state.Server) bool, error) {
	name, err := regexp.Compile(query.Get("name"))
	if err != nil {
		return nil, rest.BadRequest("Invalid regular expression in the filter name: %s", query.Get("name"))
	}
	return func(x *state.Server) bool {
		for key, have := range map[string]string{"status": x.Status, "availability_zone": x.Zone, "uuid": x.ID, "vm_state": x.VMState()} {
			if values, given := query[key]; given && !slices.Contains(values, have) {
				return false
			}
		}
		return name.MatchString(x.Name)
	}, nil
}

func (s *Service) listServers(detail bool) handler {
	return func(r *request) (*rest.Response, error) {
		query := r.URL.Query()
		filter, err := serverFilter(query)
		if err != nil {
			return nil, err
		}
		limit, err := number(r, "limit", maxPage)
		if err != nil {
			return nil, err
		}
		limit = min(limit, maxPage)
		list := s.cloud.Servers(r.Call, query.Get("all_tenants") != "", func(x *state.Server) bool {
			return x.ID == query.Get("marker") || filter(x)
		})
		if marker := query.Get("marker"); marker != "" {
			i := slices.IndexFunc(list, func(x state.Server) bool { return x.ID == marker })
			if i < 0 {
				return nil, rest.BadRequest("marker [%s] not found", marker)
			}
			list = list[i+1:]
		}
		list = list[:min(limit, len(list))]
		views := make([]rest.Object, len(list))
		for i, x := range list {
			if views[i] = (rest.Object{"id": x.ID, "name": x.Name, "links": links(r, x.ID)}); detail {
				views[i] = r.viewServer(x)
			}
		}
		body := rest.Object{"servers": views}
		if len(list) > 0 && len(list) == limit {
			query.Set("marker", list[len(list)-1].ID)
			body["servers_links"] = []rest.Object{{"rel": "next", "href": r.Base() + r.URL.Path + "?" + query.Encode()}}
		}
		return ok(body)
	}
}
