package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// UnitStatus is what a node says about one of its programs.
type UnitStatus struct {
	Name     string `json:"name"`
	Active   bool   `json:"active"`
	Restarts int    `json:"restarts"` // times it ended by itself
}

// handler answers what the node's socket is asked.
func (s *supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /units", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.status()) // a client that has gone can't be told
	})
	for action, do := range map[string]func(string) error{"start": s.Start, "stop": s.Stop} {
		mux.HandleFunc("POST /units/{name}/"+action, func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.PathValue("name")); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	return mux
}

func (s *supervisor) status() []UnitStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]UnitStatus, 0, len(s.units))
	for _, u := range s.units {
		list = append(list, UnitStatus{Name: u.name, Active: u.pid != 0, Restarts: u.restarts})
	}
	return list
}

// controlTimeout bounds a request to a node's init: a unit may take stopGrace
// twice.
const controlTimeout = 2*stopGrace + 5*time.Second

// control asks a node's init for something.
func (p Paths) control(ctx context.Context, node, method, path string) ([]byte, error) {
	client := &http.Client{Timeout: controlTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", p.node(node, "init.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+node+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", node, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("node %s: %s", node, strings.TrimSpace(string(body)))
	}
	return body, err
}

// units returns the state of a node's programs.
func (p Paths) units(ctx context.Context, node string) ([]UnitStatus, error) {
	body, err := p.control(ctx, node, http.MethodGet, "/units")
	if err != nil {
		return nil, err
	}
	var list []UnitStatus
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("node %s: %w", node, err)
	}
	return list, nil
}

func (p Paths) unitDo(ctx context.Context, node, unit, action string) error {
	_, err := p.control(ctx, node, http.MethodPost, "/units/"+unit+"/"+action)
	return err
}

// StopKubelet stops a node's kubelet, as `systemctl stop kubelet` does: its
// containers go on.
func (c *Cluster) StopKubelet(ctx context.Context, node string) error {
	return c.paths().unitDo(ctx, node, "kubelet", "stop")
}

// StartKubelet starts it again.
func (c *Cluster) StartKubelet(ctx context.Context, node string) error {
	return c.paths().unitDo(ctx, node, "kubelet", "start")
}
