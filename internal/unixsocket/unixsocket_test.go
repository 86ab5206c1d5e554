package unixsocket_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/unixsocket"
)

func listen(t *testing.T, path string) *unixsocket.Listener {
	t.Helper()
	l, err := unixsocket.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func wantServed(t *testing.T, path string) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("nobody is reached at the socket: %v", err)
	}
	_ = conn.Close()
}

func path(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s.sock")
}

func TestASocketGoesWithItsListener(t *testing.T) {
	p := path(t)
	l := listen(t, p)
	wantServed(t, p)
	if err := l.There(); err != nil {
		t.Errorf("it is not there: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its file stays: %v", err)
	}
}

// A pod that is replaced by force ends after its successor has begun.
func TestTheSocketOfASuccessorStays(t *testing.T) {
	p := path(t)
	old := listen(t, p)
	young := listen(t, p)
	if err := old.There(); !errors.Is(err, unixsocket.ErrReplaced) {
		t.Errorf("the old one says %v", err)
	}
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	wantServed(t, p)
	if err := young.There(); err != nil {
		t.Errorf("the young one says %v", err)
	}
}

func TestASocketThatSomebodyRemovedIsToldAndClosedInPeace(t *testing.T) {
	p := path(t)
	l := listen(t, p)
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
	if err := l.There(); !errors.Is(err, unixsocket.ErrGone) {
		t.Errorf("it says %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestASocketThatWasLeftBehindIsReplaced(t *testing.T) {
	p := path(t)
	dead, err := net.Listen("unix", p)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	listen(t, p)
	wantServed(t, p)
}

func TestAFileInThePlaceOfTheSocketStays(t *testing.T) {
	p := path(t)
	if err := os.WriteFile(p, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := unixsocket.Listen(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), p+" exists and is not a socket") {
		t.Errorf("it says %v", err)
	}
	if got, err := os.ReadFile(p); err != nil || string(got) != "precious" {
		t.Errorf("the file became %q, %v", got, err)
	}
}

func TestAPathThatNoSocketCanHaveIsNamed(t *testing.T) {
	p := filepath.Join(path(t), strings.Repeat("x", 100))
	_, err := unixsocket.Listen(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), p) {
		t.Errorf("it says %v", err)
	}
}
