package unixsocket_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	leave(t, p)
	listen(t, p)
	wantServed(t, p)
}

// TestWhoMustNotTakeTheSocketOfSomebodyAlive over all that may be at the path.
func TestWhoMustNotTakeTheSocketOfSomebodyAlive(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(t *testing.T, path string)
		says string // empty where the path is taken
	}{
		"nothing":       {func(*testing.T, string) {}, ""},
		"a dead socket": {leave, ""},
		"a live one":    {func(t *testing.T, p string) { listen(t, p) }, "another process serves"},
		"a file":        {func(t *testing.T, p string) { write(t, p) }, "not a socket"},
		"a directory":   {func(t *testing.T, p string) { mustMake(t, os.Mkdir(p, 0o700)) }, "not a socket"},
		"a link":        {func(t *testing.T, p string) { write(t, p+"x"); mustMake(t, os.Symlink(p+"x", p)) }, "not a socket"},
		"no directory":  {func(t *testing.T, p string) { mustMake(t, os.Remove(filepath.Dir(p))) }, "no such file"},
		"a live stranger": {func(t *testing.T, p string) {
			l, err := net.Listen("unix", p)
			mustMake(t, err)
			t.Cleanup(func() { _ = l.Close() })
		}, "another process serves"},
	} {
		t.Run(name, func(t *testing.T) {
			p := path(t)
			tt.make(t, p)
			before, _ := os.Lstat(p)
			l, err := unixsocket.ListenIfFree(t.Context(), p)
			if tt.says == "" {
				mustMake(t, err)
				wantServed(t, p)
				if err := errors.Join(l.There(), l.Close()); err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it says %v, want %q", err, tt.says)
			} else if after, _ := os.Lstat(p); before != nil && !os.SameFile(before, after) {
				t.Error("what was there has been touched")
			}
			entries, _ := os.ReadDir(filepath.Dir(p))
			for _, e := range entries {
				if strings.HasPrefix(e.Name(), ".") {
					t.Errorf("%s is left behind", e.Name())
				}
			}
		})
	}
}

// TestManyWhoListenAtOnce: each takes the place of the one before, in one step, and no
// client ever finds nothing or a socket that nobody serves.
func TestManyWhoListenAtOnce(t *testing.T) {
	p := path(t)
	listen(t, p)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	clients.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			conn, err := net.Dial("unix", p)
			if err != nil {
				t.Errorf("a client: %v", err)
				return
			}
			_ = conn.Close()
		}
	})
	var servers sync.WaitGroup
	for range 20 {
		servers.Go(func() { listen(t, p) })
		servers.Go(func() {
			if l, err := unixsocket.ListenIfFree(t.Context(), p); !errors.Is(err, unixsocket.ErrServed) {
				t.Errorf("the socket of somebody alive was taken: %v, %v", l, err)
			}
		})
	}
	servers.Wait()
	close(stop)
	clients.Wait()
}

func mustMake(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, p string) {
	t.Helper()
	mustMake(t, os.WriteFile(p, []byte("precious"), 0o600))
}

// leave puts a socket at p on which nobody listens any more.
func leave(t *testing.T, p string) {
	t.Helper()
	dead, err := net.Listen("unix", p)
	mustMake(t, err)
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	mustMake(t, dead.Close())
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

func TestAPrivateSocketIsItsUsersAlone(t *testing.T) {
	p := path(t)
	for range 2 { // the second one replaces the first
		l, err := unixsocket.ListenPrivate(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		wantServed(t, p)
		if info, err := os.Lstat(p); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}
