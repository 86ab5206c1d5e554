package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
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
	if e.Network == "unix" {
		if err := removeStaleSocket(e.Address); err != nil {
			return nil, err
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, e.Network, e.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", e, err)
	}
	socket, ok := l.(*net.UnixListener)
	if !ok {
		return l, nil
	}
	socket.SetUnlinkOnClose(false)
	file, err := os.Lstat(e.Address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", e, err), l.Close())
	}
	return &socketListener{UnixListener: socket, path: e.Address, file: file}, nil
}

// A socketListener removes its socket when it is closed, and only its own: a
// plugin that is slow to stop must not take away that of its successor.
type socketListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

func (l *socketListener) Close() error {
	var err error
	if file, stat := os.Lstat(l.path); stat == nil && os.SameFile(file, l.file) {
		err = os.Remove(l.path)
	}
	return errors.Join(err, l.UnixListener.Close())
}

// String returns the endpoint as it is written on the command line.
func (e Endpoint) String() string { return e.Network + "://" + e.Address }

func removeStaleSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("endpoint socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("endpoint %s exists and is not a socket: remove it or choose another --endpoint", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket of an earlier run: %w", err)
	}
	return nil
}
