package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// timeout bounds one request; Wipe has to wait for what is under way.
const timeout = time.Minute

// Client steers the development cloud at one address.
type Client struct {
	url  string
	http *http.Client
}

// NewClient returns a client for the cloud at url, as in "http://127.0.0.1:4711".
func NewClient(url string) *Client {
	return &Client{url: strings.TrimSuffix(url, "/") + "/admin", http: &http.Client{
		Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true},
	}}
}

// Requests returns the counters.
func (c *Client) Requests(ctx context.Context) (Requests, error) {
	var r Requests
	return r, c.do(ctx, http.MethodGet, "/requests", nil, &r)
}

// ResetRequests sets the counters to zero.
func (c *Client) ResetRequests(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "/requests", nil, nil)
}

// Faults returns the fault plan with its counters.
func (c *Client) Faults(ctx context.Context) ([]Fault, error) {
	var list []Fault
	return list, c.do(ctx, http.MethodGet, "/faults", nil, &list)
}

// SetFaults replaces the fault plan. Things that were stuck go on, unless the
// new plan has a fault of the same id.
func (c *Client) SetFaults(ctx context.Context, faults ...Fault) error {
	if faults == nil {
		faults = []Fault{}
	}
	return c.do(ctx, http.MethodPut, "/faults", faults, nil)
}

// ClearFaults empties the fault plan; what was stuck goes on.
func (c *Client) ClearFaults(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "/faults", nil, nil)
}

// Servers returns the servers.
func (c *Client) Servers(ctx context.Context) ([]Server, error) {
	var list []Server
	return list, c.do(ctx, http.MethodGet, "/servers", nil, &list)
}

// AddServer adds a server that is active at once; one of that name that is
// there already is returned unchanged.
func (c *Client) AddServer(ctx context.Context, server Server) (Server, error) {
	var added Server
	return added, c.do(ctx, http.MethodPost, "/servers", server, &added)
}

// DeleteServer deletes a server by its name, as Nova would: at once, and its
// volumes follow. It is no error when there is none.
func (c *Client) DeleteServer(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "/servers/"+url.PathEscape(name), nil, nil)
}

// HangCompute lets the nova-compute of a server hang: an attachment is answered
// with a 500 after the behaviour's rpc_timeout, a detachment is accepted and waits,
// and is refused once Nova knows, after down_after.
func (c *Client) HangCompute(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPut, "/servers/"+url.PathEscape(name)+"/hang", nil, nil)
}

// WakeCompute lets the nova-compute of a server go on. It takes up what has
// waited; what Nova has given up becomes a ghost, which Nova lists and Cinder does
// not know.
func (c *Client) WakeCompute(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "/servers/"+url.PathEscape(name)+"/hang", nil, nil)
}

// Dump returns the raw state: all records and the files of the backend.
func (c *Client) Dump(ctx context.Context) (Dump, error) {
	var d Dump
	return d, c.do(ctx, http.MethodGet, "/dump", nil, &d)
}

// Volumes returns all volumes as the cloud keeps them.
func (c *Client) Volumes(ctx context.Context) ([]Volume, error) {
	d, err := c.Dump(ctx)
	return d.Volumes, err
}

// Behaviour returns how the cloud behaves.
func (c *Client) Behaviour(ctx context.Context) (Behaviour, error) {
	var b Behaviour
	return b, c.do(ctx, http.MethodGet, "/behaviour", nil, &b)
}

// SetBehaviour changes how the cloud behaves.
func (c *Client) SetBehaviour(ctx context.Context, b Behaviour) error {
	return c.do(ctx, http.MethodPut, "/behaviour", b, nil)
}

// SetLatency changes how long everything takes, until a restart.
func (c *Client) SetLatency(ctx context.Context, m Latency) error {
	return c.do(ctx, http.MethodPut, "/latency", m, nil)
}

// Accounts returns who may log in.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) {
	var list []Account
	return list, c.do(ctx, http.MethodGet, "/accounts", nil, &list)
}

// SetQuotas changes some of the demo project's quotas.
func (c *Client) SetQuotas(ctx context.Context, quotas map[string]int64) error {
	return c.do(ctx, http.MethodPut, "/quotas", quotas, nil)
}

// ExpireTokens makes every token invalid.
func (c *Client) ExpireTokens(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "/tokens", nil, nil)
}

// Wipe removes every volume, snapshot and backup with its data, waiting for
// what is under way, and clears the fault plan. Servers stay.
func (c *Client) Wipe(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/wipe", nil, nil)
}

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("devcloud admin %s: %w", path, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return fmt.Errorf("devcloud admin %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("devcloud admin: %w", err)
	}
	data, err := io.ReadAll(resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("devcloud admin %s: %w", path, err)
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("devcloud admin %s %s: %s: %s", method, path, resp.Status, strings.TrimSpace(string(data)))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("devcloud admin %s: %w", path, err)
	}
	return nil
}
