package forward

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest/channel"
)

const id = "0b8a5c0e-6d5f-4f4e-9a53-5a1f3a1a0c11"

// shortDir is a directory whose sockets have names that the kernel takes: those
// of t.TempDir hold the name of the test.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fwd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// boot is a server whose guest answers each command with its own arguments.
func boot(t *testing.T, dir, instance string) (stop func()) {
	t.Helper()
	path := filepath.Join(dir, channel.Port+"."+instance+".sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // as a hypervisor that was killed
	conns := make(chan net.Conn, 10)
	go func() {
		defer close(conns)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns <- conn
			go answer(conn)
		}
	}()
	return func() {
		_ = l.Close()
		for conn := range conns {
			_ = conn.Close()
		}
	}
}

func answer(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	session, err := channel.Guest(conn, id, 10*time.Second)
	if err != nil {
		return
	}
	stream, err := session.Accept()
	if err != nil {
		return
	}
	var kind [1]byte
	_, _ = io.ReadFull(stream, kind[:])
	var c channel.Command
	_ = json.NewDecoder(stream).Decode(&c)
	_ = json.NewEncoder(stream).Encode(channel.Result{Output: []byte(string(kind[:]) + ": " + strings.Join(c.Args, " "))})
	_ = stream.Close()
	_, _ = stream.Read(kind[:]) // until the other end has closed it, too
	_ = session.Close()
}

func TestAGuestIsReachedWheneverItIsThere(t *testing.T) {
	ports, sockets := t.TempDir(), filepath.Join(shortDir(t), "guests")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	f := &Forwarder{Ports: []string{ports, filepath.Join(ports, "none")}, Sockets: sockets, Log: io.Discard}
	go func() { ended <- f.Run(ctx) }()
	g := guest.New(sockets, id)
	patience, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	for range 2 { // a server is started, and started again
		off := boot(t, ports, "instance-00000001")
		for range 2 { // the guest ends the session, and is found again
			if err := g.Await(patience); err != nil {
				t.Fatal(err)
			}
			out, err := g.Exec(patience, "echo", "here")
			if err != nil || out != "x: echo here" {
				t.Fatalf("got %q, %v", out, err)
			}
			for there(t, g.Socket()) {
				time.Sleep(10 * time.Millisecond)
			}
		}
		off()
		for there(t, filepath.Join(ports, "instance-00000001"+suffix)) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func there(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err == nil
}
