package channel

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const name = "0b8a5c0e-6d5f-4f4e-9a53-5a1f3a1a0c11"

// ends returns the two ends of a connection with room for what nobody reads yet,
// as the port has.
func ends(t *testing.T) (host, guest net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "port"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if host, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if guest, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = host.Close(), guest.Close() })
	return host, guest
}

// echo answers each stream with what comes on it.
func echo(guest net.Conn) error {
	session, err := Guest(guest, name, 10*time.Second)
	if err != nil {
		return err
	}
	for {
		stream, err := session.Accept()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(stream, stream)
			_ = stream.Close()
		}()
	}
}

func TestStreams(t *testing.T) {
	host, guest := ends(t)
	// What earlier ends have left behind, a greeting with another number among
	// it, and the beginning of one.
	old := greeting{kind: answer}
	for _, rest := range []string{"\x00\x01\x00\x00", string(old.bytes()), magic[:5]} {
		if _, err := guest.Write([]byte(rest)); err != nil {
			t.Fatal(err)
		}
		if _, err := host.Write([]byte(rest)); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _ = echo(guest) }()
	session, got, err := Host(host)
	if err != nil {
		t.Fatal(err)
	}
	if got != name {
		t.Errorf("the guest is %q, want %q", got, name)
	}
	for range 3 {
		stream, err := session.Open()
		if err != nil {
			t.Fatal(err)
		}
		sent := strings.Repeat("0123456789abcdef", 1<<16) // more than a window
		go func() {
			_, _ = io.WriteString(stream, sent)
			_ = stream.Close()
		}()
		back, err := io.ReadAll(stream)
		if err != nil || string(back) != sent {
			t.Fatalf("%d bytes came back, want %d: %v", len(back), len(sent), err)
		}
	}
}

func TestAGuestWaitsForAHostOnlySoLong(t *testing.T) {
	_, guest := ends(t)
	_, err := Guest(guest, name, 50*time.Millisecond)
	if !errors.Is(err, ErrNobody) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestAHostWhoseGuestIsGone(t *testing.T) {
	host, guest := ends(t)
	_ = guest.Close()
	if _, _, err := Host(host); err == nil {
		t.Error("a guest that isn't there has answered")
	}
}
