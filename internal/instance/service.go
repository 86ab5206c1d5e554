package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The metadata service of a busy cloud answers 5xx, and nothing at all while a
// server's network comes up. Four attempts over 3.5 s bridge a restart of the
// service's agent; the caller asks again anyway.
const (
	attempts   = 4
	firstPause = 500 * time.Millisecond
)

// connectTime bounds how long a connection to the service may take to come about: nothing
// answers where there is no service.
const connectTime = 5 * time.Second

// errRepeat marks a failure that another attempt may mend.
var errRepeat = errors.New("metadata service unavailable")

// readService returns meta_data.json of the metadata service, which it asks up to so many
// times where that may help, until Options.Timeout has passed.
func (s *Server) readService(ctx context.Context, times int) ([]byte, error) {
	address, err := serviceURL(s.opts.MetadataURL)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	client := serviceClient()
	defer client.CloseIdleConnections()

	pause := firstPause
	for attempt := 1; ; attempt++ {
		data, err := get(ctx, client, address)
		if err == nil {
			return data, nil
		}
		if !errors.Is(err, errRepeat) || attempt >= times || ctx.Err() != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// serviceURL returns the address of meta_data.json at a metadata service.
func serviceURL(base string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("metadata URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return "", fmt.Errorf("metadata URL %q: want http://HOST or https://HOST", u.Redacted())
	}
	return strings.TrimSuffix(u.String(), "/") + "/" + metadataPath, nil
}

// serviceClient returns a client that goes to the service itself: no proxy,
// since the service tells servers apart by their address, and no redirect,
// since whoever answers with one isn't the service.
func serviceClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: connectTime}).DialContext},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// get fetches one document. Its error wraps errRepeat where a later attempt may
// succeed.
func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("metadata request: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRepeat, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusOK:
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return nil, fmt.Errorf("%w: GET %s: HTTP %d", errRepeat, address, resp.StatusCode)
	default:
		return nil, fmt.Errorf("GET %s: HTTP %d", address, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadata+1))
	if err != nil {
		return nil, fmt.Errorf("%w: GET %s: %w", errRepeat, address, err)
	}
	if len(data) > maxMetadata {
		return nil, fmt.Errorf("GET %s: the answer is %w", address, errTooLarge)
	}
	return data, nil
}
