// Package unixsocket listens on unix sockets that survive their process: one
// that was left behind is replaced, and one of a successor stays.
package unixsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

var (
	// ErrGone means that somebody removed the socket.
	ErrGone = errors.New("the socket is gone")
	// ErrReplaced means that somebody put another one in its place.
	ErrReplaced = errors.New("the socket was replaced")
)

// Listener is a listening unix socket and the file that it was made as.
type Listener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// Listen opens a socket. One that a process of the past left behind is replaced;
// anything else at the path is an error and stays as it is.
func Listen(ctx context.Context, path string) (*Listener, error) {
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	socket := l.(*net.UnixListener)
	// The file is removed here, and only if it is this socket's.
	socket.SetUnlinkOnClose(false)
	file, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return &Listener{UnixListener: socket, path: path, file: file}, nil
}

func makeRoom(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket: remove it, or choose another path", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket of an earlier run: %w", err)
	}
	return nil
}

// There tells whether a client still finds this socket: nil, ErrGone or
// ErrReplaced.
func (l *Listener) There() error {
	file, err := os.Lstat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrGone
	case err != nil:
		return err
	case !os.SameFile(file, l.file):
		return ErrReplaced
	}
	return nil
}

// Remove removes the file and goes on listening. Only its own: a process that is
// slow to stop must not take away the socket of its successor.
func (l *Listener) Remove() error {
	if err := l.There(); err != nil {
		return nil //nolint:nilerr // then there is nothing of ours to remove
	}
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Close removes the file, if it is this socket's, and stops listening.
func (l *Listener) Close() error { return errors.Join(l.Remove(), l.UnixListener.Close()) }
