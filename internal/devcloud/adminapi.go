package devcloud

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/fault"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// adminHandler answers a request to /admin with something that becomes JSON.
type adminHandler func(r *http.Request) (any, error)

// adminRoutes are the requests of package admin's client.
func (c *Cloud) adminRoutes(mux *http.ServeMux) {
	for pattern, h := range map[string]adminHandler{
		"GET /admin/requests":          func(*http.Request) (any, error) { return c.counts.read(), nil },
		"DELETE /admin/requests":       func(*http.Request) (any, error) { c.counts.reset(); return nil, nil },
		"GET /admin/faults":            func(*http.Request) (any, error) { return c.state.Faults().List(), nil },
		"PUT /admin/faults":            c.setFaults,
		"POST /admin/faults":           c.addFault,
		"DELETE /admin/faults":         func(*http.Request) (any, error) { c.state.Faults().Set(nil); return nil, nil },
		"GET /admin/servers":           func(*http.Request) (any, error) { return c.listServers(), nil },
		"POST /admin/servers":          c.addServer,
		"DELETE /admin/servers/{name}": c.deleteServer,
		"PUT /admin/servers/{name}/hang": func(r *http.Request) (any, error) {
			return nil, c.state.HangCompute(r.PathValue("name"))
		},
		"DELETE /admin/servers/{name}/hang": func(r *http.Request) (any, error) {
			return nil, c.state.WakeCompute(r.PathValue("name"))
		},
		"GET /admin/dump":      func(*http.Request) (any, error) { return c.state.Dump() },
		"GET /admin/behaviour": func(*http.Request) (any, error) { return c.state.Behaviour(), nil },
		"PUT /admin/behaviour": c.setBehaviour,
		"GET /admin/latency":   func(*http.Request) (any, error) { return c.state.Latency(), nil },
		"PUT /admin/latency":   c.setLatency,
		"GET /admin/accounts":  func(*http.Request) (any, error) { return c.accounts(), nil },
		"PUT /admin/quotas":    c.setQuotas,
		"DELETE /admin/tokens": func(*http.Request) (any, error) { c.identity.ExpireAll(); return nil, nil },
		"POST /admin/wipe":     func(*http.Request) (any, error) { return nil, c.state.Clear() },
	} {
		mux.Handle(pattern, c.adminHandler(h))
	}
}

func (c *Cloud) adminHandler(h adminHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.counts.admin()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		body, err := h(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if body == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// A client that has gone cannot be told.
		_ = json.NewEncoder(w).Encode(body)
	})
}

func decode[T any](r *http.Request) (T, error) {
	var v T
	data, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		return v, fmt.Errorf("request body: %w", err)
	}
	return v, nil
}

func (c *Cloud) setFaults(r *http.Request) (any, error) {
	plan, err := decode[[]fault.Fault](r)
	if err != nil {
		return nil, err
	}
	for i, f := range plan {
		if err := f.Check(); err != nil {
			return nil, fmt.Errorf("fault %d: %w", i+1, err)
		}
	}
	c.state.Faults().Set(plan)
	return c.state.Faults().List(), nil
}

func (c *Cloud) addFault(r *http.Request) (any, error) {
	f, err := decode[fault.Fault](r)
	if err != nil {
		return nil, err
	}
	if err := f.Check(); err != nil {
		return nil, err
	}
	c.state.Faults().Set(append(c.state.Faults().List(), f))
	return c.state.Faults().List(), nil
}

func (c *Cloud) listServers() []admin.Server {
	list := []admin.Server{}
	for _, s := range c.state.Servers(state.Call{Admin: true}, true, nil) {
		list = append(list, c.serverOf(s))
	}
	return list
}

func (c *Cloud) serverOf(s state.Server) admin.Server {
	view := admin.Server{
		Name: s.Key, Zone: s.Zone, ID: s.ID, Status: s.Status, DeviceDir: c.DeviceDir(s.Key), MetadataURL: c.MetadataURL(s.Key),
	}
	for _, d := range s.Disks {
		view.Volumes = append(view.Volumes, d.VolumeID)
	}
	return view
}

func (c *Cloud) addServer(r *http.Request) (any, error) {
	server, err := decode[admin.Server](r)
	if err != nil {
		return nil, err
	}
	s, err := c.ensureServer(Server{Name: server.Name, Zone: server.Zone, ID: server.ID})
	if err != nil {
		return nil, err
	}
	return c.serverOf(s), nil
}

func (c *Cloud) deleteServer(r *http.Request) (any, error) {
	s, found := c.state.ServerByKey(r.PathValue("name"))
	if !found {
		return nil, nil
	}
	return nil, c.state.DeleteServer(state.Call{Admin: true, RequestID: "req-admin-" + s.ID, UserID: s.UserID, ProjectID: s.ProjectID}, s.ID)
}

func (c *Cloud) setBehaviour(r *http.Request) (any, error) {
	b, err := decode[state.Behaviour](r)
	if err != nil {
		return nil, err
	}
	return nil, c.state.SetBehaviour(b)
}

func (c *Cloud) setLatency(r *http.Request) (any, error) {
	m, err := decode[latency.Model](r)
	if err != nil {
		return nil, err
	}
	c.state.SetLatency(m)
	return nil, nil
}

func (c *Cloud) setQuotas(r *http.Request) (any, error) {
	q, err := decode[state.Quotas](r)
	if err != nil {
		return nil, err
	}
	demo, _ := c.state.Accounts().Project(state.DemoUser)
	return nil, c.state.SetQuotas(demo.ID, q)
}

func (c *Cloud) accounts() []admin.Account {
	var list []admin.Account
	all := c.state.Accounts()
	for _, u := range all.Users {
		p, _ := all.Project(u.ProjectID)
		a := admin.Account{User: u.Name, UserID: u.ID, Password: u.Password, Project: p.Name, ProjectID: p.ID}
		if cred, found := all.Credential("", u.Name, u.ID); found {
			a.CredentialID, a.CredentialSecret = cred.ID, cred.Secret
		}
		list = append(list, a)
	}
	return list
}
