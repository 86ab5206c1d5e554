// Package qmp speaks to a running QEMU in its machine protocol: commands,
// answers and events as JSON, over one connection.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrGone means that QEMU has closed the connection.
var ErrGone = errors.New("qemu is gone")

// Client is a connection to one QEMU. It is safe for concurrent use.
type Client struct {
	conn io.ReadWriteCloser
	gone chan struct{} // closed when nothing comes any more

	mu      sync.Mutex // guards what is below, and writing
	lastID  int
	pending map[int]chan error
	awaited []*expectation
}

// expectation is an event that somebody waits for.
type expectation struct {
	event string
	match func(data json.RawMessage) bool
	seen  chan struct{}
}

// message is everything that QEMU sends.
type message struct {
	Greeting json.RawMessage `json:"QMP"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	ID    int             `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// New takes over conn, on which QEMU is about to greet, and begins the session.
func New(ctx context.Context, conn io.ReadWriteCloser) (*Client, error) {
	c := &Client{conn: conn, gone: make(chan struct{}), pending: map[int]chan error{}}
	go c.read()
	if err := c.Execute(ctx, "qmp_capabilities", nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends the session. QEMU lives on.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.gone
	return err
}

// Execute runs a command and waits for its answer; args may be nil.
func (c *Client) Execute(ctx context.Context, command string, args any) error {
	reply, err := c.send(command, args)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	select {
	case err := <-reply:
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		return nil
	case <-c.gone:
		return fmt.Errorf("%s: %w", command, ErrGone)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", command, context.Cause(ctx))
	}
}

// Expect returns a channel that is closed when the event comes whose data
// match. It must be called before that event can come.
func (c *Client) Expect(event string, match func(data json.RawMessage) bool) <-chan struct{} {
	e := &expectation{event: event, match: match, seen: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaited = append(c.awaited, e)
	return e.seen
}

func (c *Client) send(command string, args any) (<-chan error, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	request := map[string]any{"execute": command, "id": c.lastID}
	if args != nil {
		request["arguments"] = args
	}
	data, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	reply := make(chan error, 1)
	c.pending[c.lastID] = reply
	_, err = c.conn.Write(append(data, '\n'))
	return reply, err
}

// read hands out what comes until the connection ends.
func (c *Client) read() {
	defer close(c.gone)
	lines := bufio.NewScanner(c.conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return // whoever waits is told that QEMU is gone
		}
		c.take(m)
	}
}

func (c *Client) take(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case m.Event != "":
		c.happened(m)
	case m.Greeting == nil:
		var err error
		if m.Error != nil {
			err = fmt.Errorf("%s: %s", m.Error.Class, m.Error.Desc)
		}
		if reply, ok := c.pending[m.ID]; ok {
			delete(c.pending, m.ID)
			reply <- err
		}
	}
}

// happened wakes those who expect the event.
func (c *Client) happened(m message) {
	rest := c.awaited[:0]
	for _, e := range c.awaited {
		if e.event == m.Event && e.match(m.Data) {
			close(e.seen)
			continue
		}
		rest = append(rest, e)
	}
	c.awaited = rest
}
