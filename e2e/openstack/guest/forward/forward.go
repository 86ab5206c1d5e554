// Package forward holds the host's ends of the guests' ports, and makes two
// sockets for each guest of it: one is the node plugin's, one takes commands.
package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest/channel"
)

// look is how often the forwarder looks for new guests.
const look = 50 * time.Millisecond

// starting is how long after a socket was made its hypervisor may need to listen
// there.
const starting = 2 * time.Second

// Forwarder connects guests.
type Forwarder struct {
	// Ports are the folders where the hypervisors put the sockets of ports.
	Ports []string
	// Sockets is the folder for the sockets of guests.
	Sockets string
	// Log gets a line for each guest that comes or goes.
	Log io.Writer

	mu      sync.Mutex
	serving map[string]bool // by path of the port
}

// Run serves until the context ends.
func (f *Forwarder) Run(ctx context.Context) error {
	f.serving = map[string]bool{}
	if err := os.MkdirAll(f.Sockets, 0o700); err != nil {
		return err
	}
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		for _, dir := range f.Ports {
			if err := f.find(ctx, dir); err != nil {
				return err
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// suffix is that of a port which is ours.
const suffix = ".port"

// find serves the ports in a folder. It gives new ones a name of its own at
// once: libvirt takes a guest agent to be behind the port, and would connect to
// it as soon as the guest opens its end. There is room for one.
func (f *Forwarder) find(ctx context.Context, dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	found, err := filepath.Glob(filepath.Join(dir, channel.Port+".*.sock"))
	if err != nil {
		return err
	}
	for _, path := range found {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), channel.Port+"."), ".sock")
		// The server may be deleted at this very moment.
		if err := os.Rename(path, filepath.Join(dir, name+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	ours, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return err
	}
	for _, path := range ours {
		if !f.serving[path] {
			f.serving[path] = true
			go f.follow(ctx, path)
		}
	}
	return nil
}

// follow serves one port until nobody listens there any more.
func (f *Forwarder) follow(ctx context.Context, path string) {
	name := strings.TrimSuffix(filepath.Base(path), suffix)
	for ctx.Err() == nil {
		before, _ := os.Stat(path) // without it nobody can be reached, either
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			if before != nil && time.Since(before.ModTime()) < starting {
				time.Sleep(look)
				continue
			}
			if f.forget(path, before) {
				f.say("%s: the server is gone: %v", name, err)
				return
			}
			continue
		}
		err = f.serve(ctx, name, conn)
		_ = conn.Close()
		f.say("%s: %v", name, err)
		// The guest has to see that nobody is there, to begin anew.
		time.Sleep(time.Second)
	}
}

// forget removes the socket of a port at which nobody listens, and reports
// whether it did. There is a new one if the server has been started again.
func (f *Forwarder) forget(path string, dead os.FileInfo) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now, err := os.Stat(path); err == nil && dead != nil && !os.SameFile(dead, now) {
		return false
	}
	_ = os.Remove(path) // it is gone, or found again
	delete(f.serving, path)
	return true
}

// serve finds the guest, makes its sockets, and serves them until it goes.
func (f *Forwarder) serve(ctx context.Context, name string, conn net.Conn) error {
	session, id, err := channel.Host(conn)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var accepting sync.WaitGroup
	defer accepting.Wait()
	for end, kind := range map[string]channel.Kind{".csi": channel.CSI, ".exec": channel.Exec} {
		l, err := listen(ctx, filepath.Join(f.Sockets, id+end))
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }()
		accepting.Go(func() { accept(l, session, kind) })
	}
	f.say("%s: server %s is there", name, id)
	select {
	case <-session.CloseChan():
		return fmt.Errorf("server %s has gone", id)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *Forwarder) say(format string, args ...any) {
	_, _ = fmt.Fprintf(f.Log, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...) // a log that can't be written spoils nothing
}

// listen makes a socket in place of an old one.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}

// accept gives each connection a stream.
func accept(l net.Listener, session *yamux.Session, kind channel.Kind) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		go join(conn, session, kind)
	}
}

// join carries bytes both ways until either end is done.
func join(conn net.Conn, session *yamux.Session, kind channel.Kind) {
	defer func() { _ = conn.Close() }()
	stream, err := session.Open()
	if err != nil {
		return // the guest is gone; so is the connection
	}
	defer func() { _ = stream.Close() }()
	if _, err := stream.Write([]byte{byte(kind)}); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	copyTo := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from) // either end may go
		done <- struct{}{}
	}
	go copyTo(stream, conn)
	go copyTo(conn, stream)
	<-done
}
