package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
)

// Client asks the plugin that has a socket.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client for the socket at a path.
func NewClient(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// LogLevel returns how much the plugin logs.
func (c *Client) LogLevel(ctx context.Context) (now LogLevel, err error) {
	var said bytes.Buffer
	if err := c.ask(ctx, http.MethodGet, "/log-level", nil, &said); err != nil {
		return LogLevel{}, err
	}
	err = c.decode(&said, &now)
	return now, err
}

// SetLogLevel changes how much the plugin logs, for a time, or until it starts again if
// that is 0.
func (c *Client) SetLogLevel(ctx context.Context, level zapcore.Level, lasts time.Duration) (now LogLevel, err error) {
	to := change{Level: level}
	if lasts != 0 {
		to.For = lasts.String()
	}
	body, err := json.Marshal(to)
	if err != nil {
		return LogLevel{}, err
	}
	var said bytes.Buffer
	if err := c.ask(ctx, http.MethodPut, "/log-level", body, &said); err != nil {
		return LogLevel{}, err
	}
	err = c.decode(&said, &now)
	return now, err
}

// Profile writes a profile of the plugin to w, for "go tool pprof": profile (of the
// processor) and trace of as many seconds as lasts has, or one that runtime/pprof knows,
// such as heap and goroutine.
func (c *Client) Profile(ctx context.Context, name string, lasts time.Duration, w io.Writer) error {
	query := url.Values{}
	if seconds := int(lasts.Seconds()); seconds > 0 {
		query.Set("seconds", strconv.Itoa(seconds))
	}
	return c.ask(ctx, http.MethodGet, "/debug/pprof/"+url.PathEscape(name)+"?"+query.Encode(), nil, w)
}

func (c *Client) decode(said io.Reader, into any) error {
	if err := json.NewDecoder(said).Decode(into); err != nil {
		return fmt.Errorf("the answer on %s: %w", c.socket, err)
	}
	return nil
}

// ask sends a request and copies what is answered to w.
func (c *Client) ask(ctx context.Context, method, path string, body []byte, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://plugin"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return fmt.Errorf("the plugin does not answer on %s, which --admin-endpoint of the plugin says: %w", c.socket, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		const most = 1 << 10
		said, _ := io.ReadAll(io.LimitReader(resp.Body, most))
		return fmt.Errorf("the plugin on %s: %s: %s", c.socket, resp.Status, strings.TrimSpace(string(said)))
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the answer on %s: %w", c.socket, err)
	}
	return nil
}
