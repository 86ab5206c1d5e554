package registration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

var (
	// errGone means that somebody removed the socket.
	errGone = errors.New("the socket is gone")
	// errReplaced means that somebody put another one in its place.
	errReplaced = errors.New("the socket was replaced")
)

// socket is a unix socket and the file that it was made as.
type socket struct {
	path     string
	listener net.Listener
	file     fs.FileInfo
}

// listen opens a socket. One that a plugin of the past left behind is replaced;
// anything else in its place stays as it is.
func listen(ctx context.Context, path string) (*socket, error) {
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// The file is removed here and only if it is this socket's: a plugin that
	// is slow to stop must not take away that of its successor.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	file, err := os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{path: path, listener: l, file: file}, nil
}

func makeRoom(path string) error {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: mount the kubelet's directory plugins_registry there, or set --plugin-registration-path", err)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket: remove it", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket of an earlier run: %w", err)
	}
	return nil
}

// there tells whether the kubelet still finds this socket: nil, errGone or
// errReplaced.
func (s *socket) there() error {
	file, err := os.Lstat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errGone
	case err != nil:
		return err
	case !os.SameFile(file, s.file):
		return errReplaced
	}
	return nil
}

// remove removes the file, if it is this socket's.
func (s *socket) remove() error {
	if err := s.there(); err != nil {
		return nil //nolint:nilerr // then there is nothing of ours to remove
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
