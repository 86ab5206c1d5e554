// Package unixsocket listens on unix sockets that survive their process: one
// that was left behind is replaced, and one of a successor stays.
package unixsocket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

var (
	// ErrGone means that somebody removed the socket.
	ErrGone = errors.New("the socket is gone")
	// ErrReplaced means that somebody put another one in its place.
	ErrReplaced = errors.New("the socket was replaced")
	// ErrServed means that a process listens on the socket that is there.
	ErrServed = errors.New("another process serves the socket")
)

// Listener is a listening unix socket and the file that it was made as.
type Listener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// Listen opens a socket. Another socket at the path is replaced in one step, whether a
// process of the past left it behind or somebody serves it; anything else at the path is
// an error and stays as it is.
func Listen(ctx context.Context, path string) (*Listener, error) {
	if _, err := lookUp(path); err != nil {
		return nil, err
	}
	return listen(ctx, path, &net.ListenConfig{}, os.Rename)
}

// ListenPrivate is Listen for a socket that only its own user, and root, may connect to.
func ListenPrivate(ctx context.Context, path string) (*Listener, error) {
	if _, err := lookUp(path); err != nil {
		return nil, err
	}
	// Linux takes the mode of the file from the socket when it is bound, so that there is
	// no moment at which others may connect.
	private := func(_, _ string, conn syscall.RawConn) error {
		const mode = 0o600
		var denied error
		err := conn.Control(func(fd uintptr) { denied = syscall.Fchmod(int(fd), mode) })
		return errors.Join(err, denied)
	}
	return listen(ctx, path, &net.ListenConfig{Control: private}, os.Rename)
}

// ListenIfFree is Listen for whoever must not take the place of somebody who is alive:
// it returns an error that wraps ErrServed where a process serves the path.
func ListenIfFree(ctx context.Context, path string) (*Listener, error) {
	there, err := lookUp(path)
	if err != nil {
		return nil, err
	}
	if there != nil {
		if err := removeDead(ctx, path, there); err != nil {
			return nil, err
		}
	}
	return listen(ctx, path, &net.ListenConfig{}, func(from, to string) error { return errors.Join(os.Link(from, to), os.Remove(from)) })
}

// lookUp returns the socket at path, nil where nothing is; anything else is an error.
func lookUp(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s exists and is not a socket: remove it, or choose another path", path)
	}
	return info, nil
}

// removeDead removes a socket on which nobody listens any more.
func removeDead(ctx context.Context, path string, dead fs.FileInfo) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close() // nothing was said
		return fmt.Errorf("%s: %w", path, ErrServed)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w: %w", path, ErrServed, err) // such as one with a full queue
	}
	if now, err := os.Lstat(path); err != nil || !os.SameFile(now, dead) {
		return fmt.Errorf("%s: %w", path, ErrServed) // it was replaced at this moment
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket of an earlier process: %w", err)
	}
	return nil
}

// listen opens a socket by a name for the moment, and has place move it to path: so
// there is no moment at which another process finds nothing at the path and puts its
// own socket there, or finds one that doesn't listen. The kubelet takes no notice of
// names that begin with a dot.
func listen(ctx context.Context, path string, config *net.ListenConfig, place func(from, to string) error) (*Listener, error) {
	const short = 6 // such a name is no longer than any other: the kernel takes 107 bytes of path
	moment := filepath.Join(filepath.Dir(path), "."+rand.Text()[:short])
	l, err := config.Listen(ctx, "unix", moment)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	socket := l.(*net.UnixListener)
	// The file is removed here, and only if it is this socket's.
	socket.SetUnlinkOnClose(false)
	file, err := os.Lstat(moment)
	if err == nil {
		err = place(moment, path)
	}
	if errors.Is(err, fs.ErrExist) {
		err = ErrServed // it has just come
	}
	if err != nil {
		_ = os.Remove(moment) // if it is there still
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), socket.Close())
	}
	return &Listener{UnixListener: socket, path: path, file: file}, nil
}

// Addr returns the path as clients know it.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// There tells whether a client still finds this socket: nil, ErrGone, ErrReplaced, or
// why the path can't be looked at.
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
