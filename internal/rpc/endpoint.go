package rpc

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/unixsocket"
)

// An Endpoint is where the plugin listens.
type Endpoint struct {
	// Network is "unix" or "tcp".
	Network string
	// Address is an absolute path, or host:port.
	Address string
}

// ParseEndpoint understands unix://PATH and tcp://HOST:PORT, the scheme in any
// letter case. A unix path that lacks its first slash gets one, as manifests
// of the reference driver write unix://csi/csi.sock for /csi/csi.sock.
func ParseEndpoint(endpoint string) (Endpoint, error) {
	scheme, rest, found := strings.Cut(endpoint, "://")
	scheme = strings.ToLower(scheme)
	if !found || (scheme != "unix" && scheme != "tcp") {
		return Endpoint{}, fmt.Errorf("endpoint %q: want unix://PATH or tcp://HOST:PORT", endpoint)
	}
	if rest == "" || rest == "/" {
		return Endpoint{}, fmt.Errorf("endpoint %q: the address after %s:// is missing", endpoint, scheme)
	}
	if scheme == "unix" && !filepath.IsAbs(rest) {
		rest = "/" + rest
	}
	return Endpoint{Network: scheme, Address: rest}, nil
}

// Listen opens the endpoint. A socket that a plugin of the past left behind is
// replaced; anything else at its path is an error and stays as it is.
func (e Endpoint) Listen(ctx context.Context) (net.Listener, error) {
	l, err := e.listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", e, err)
	}
	return l, nil
}

func (e Endpoint) listen(ctx context.Context) (net.Listener, error) {
	if e.Network == "unix" {
		return unixsocket.Listen(ctx, e.Address)
	}
	return (&net.ListenConfig{}).Listen(ctx, e.Network, e.Address)
}

// String returns the endpoint as it is written on the command line.
func (e Endpoint) String() string { return e.Network + "://" + e.Address }
