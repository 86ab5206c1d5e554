package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
)

// Client speaks to a supervisor.
type Client struct{ http *http.Client }

// NewClient returns a client of the supervisor behind a socket.
func NewClient(socket string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

func (c *Client) do(ctx context.Context, method, path string, body, value any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("the supervisor does not answer: %w", err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s", bytes.TrimSpace(text))
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(text, value)
}

// Start runs a service, or leaves it as it is if it runs.
func (c *Client) Start(ctx context.Context, service Service) error {
	if err := c.do(ctx, http.MethodPut, "/services", service, nil); err != nil {
		return fmt.Errorf("start %s: %w", service.Name, err)
	}
	return nil
}

// Stop ends a service.
func (c *Client) Stop(ctx context.Context, name string) error {
	if err := c.do(ctx, http.MethodDelete, "/services/"+name, nil, nil); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	return nil
}

// Signal sends a signal to a service and its workers.
func (c *Client) Signal(ctx context.Context, name string, signal syscall.Signal) error {
	return c.do(ctx, http.MethodPost, fmt.Sprintf("/services/%s/signal/%d", name, signal), nil, nil)
}

// States returns what has become of every service.
func (c *Client) States(ctx context.Context) (map[string]State, error) {
	var states map[string]State
	err := c.do(ctx, http.MethodGet, "/services", nil, &states)
	return states, err
}
