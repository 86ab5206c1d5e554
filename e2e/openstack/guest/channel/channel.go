// Package channel makes many streams of the one serial port between a host and
// a guest.
//
// The port is there before either end is, and outlives both: what an end has
// written may be read by one that never knew of it. So the two find each other
// first. The host says hello with a number of its own, and what comes before the
// guest's answer with that number is of the past.
package channel

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/yamux"
)

// Port is the name of the serial port, which Nova gives to servers whose image
// asks for a guest agent.
const Port = "org.qemu.guest_agent.0"

// Kind is the first byte of a stream and says what it is for.
type Kind byte

// The kinds of streams.
const (
	// CSI leads to the node plugin's socket.
	CSI Kind = 'c'
	// Exec carries one command, and its result.
	Exec Kind = 'x'
)

const (
	// magic begins a greeting. Its first byte begins nothing that yamux sends.
	magic    = "\xc5guests\x00"
	nonceLen = 16
	nameLen  = 36 // a UUID
)

const (
	hello  = 'H' // of the host
	answer = 'A' // of the guest
)

// greeting is what both say first.
type greeting struct {
	kind  byte
	nonce [nonceLen]byte
	name  [nameLen]byte
}

func (g greeting) bytes() []byte {
	return append(append(append([]byte(magic), g.kind), g.nonce[:]...), g.name[:]...)
}

// listen reads until a greeting of a kind has come.
func listen(r *bufio.Reader, kind byte) (greeting, error) {
	var g greeting
	for {
		start, err := r.Peek(len(magic) + 1)
		if err != nil {
			return g, err
		}
		if !bytes.Equal(start, append([]byte(magic), kind)) {
			_, _ = r.Discard(1) // it was peeked at
			continue
		}
		whole := make([]byte, len(g.bytes()))
		if _, err := io.ReadFull(r, whole); err != nil {
			return g, err
		}
		g.kind = kind
		copy(g.nonce[:], whole[len(magic)+1:])
		copy(g.name[:], whole[len(magic)+1+nonceLen:])
		return g, nil
	}
}

// buffered is a connection of which some was read ahead.
type buffered struct {
	io.ReadWriteCloser

	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// Host finds the guest at the other end and returns its name, and the session
// in which it takes streams. A guest that is still booting answers later: end
// the wait by closing the connection.
func Host(conn io.ReadWriteCloser) (*yamux.Session, string, error) {
	g := greeting{kind: hello}
	_, _ = rand.Read(g.nonce[:]) // never fails
	if _, err := conn.Write(g.bytes()); err != nil {
		return nil, "", fmt.Errorf("greet the guest: %w", err)
	}
	r := bufio.NewReader(conn)
	for {
		got, err := listen(r, answer)
		if err != nil {
			return nil, "", fmt.Errorf("wait for the guest: %w", err)
		}
		if got.nonce == g.nonce {
			session, err := yamux.Client(buffered{conn, r}, settings())
			return session, string(got.name[:]), err
		}
	}
}

// ErrNobody says that no host is there, or that the one which is has not said
// hello.
var ErrNobody = errors.New("no host has said hello")

// port is the guest's end, which can end a wait.
type port interface {
	io.ReadWriteCloser
	SetReadDeadline(at time.Time) error
}

// Guest waits until a host says hello, and returns the session in which it opens
// streams. Without a host the port reads as ended.
func Guest(conn port, name string, patience time.Duration) (*yamux.Session, error) {
	if len(name) != nameLen {
		return nil, fmt.Errorf("%q is no UUID", name)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	g, err := listen(r, hello)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	g.kind = answer
	copy(g.name[:], name)
	if _, err := conn.Write(g.bytes()); err != nil {
		return nil, fmt.Errorf("answer the host: %w", err)
	}
	return yamux.Server(buffered{conn, r}, settings())
}

// settings let a guest be slow, or paused for a minute, without ending the
// session.
func settings() *yamux.Config {
	c := yamux.DefaultConfig()
	c.KeepAliveInterval = 30 * time.Second
	c.ConnectionWriteTimeout = 2 * time.Minute
	c.StreamOpenTimeout = 2 * time.Minute
	c.LogOutput = io.Discard
	return c
}
