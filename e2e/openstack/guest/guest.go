// Package guest reaches into the servers that Nova has booted from the stack's
// image: to the node plugin that runs there, and to a shell. There is no network
// between: all goes through the port of the guest agent, which the forwarder of
// package forward holds, and of which it makes two sockets for each server.
package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest/channel"
)

// Guest is a server that can be reached.
type Guest struct {
	// ID is Nova's id of the server.
	ID  string
	dir string
}

// New returns a guest whose sockets are in a folder.
func New(dir, id string) *Guest { return &Guest{ID: id, dir: dir} }

// Socket is the node plugin's socket, forwarded to this machine.
func (g *Guest) Socket() string { return filepath.Join(g.dir, g.ID+".csi") }

// commands is the socket that takes commands.
func (g *Guest) commands() string { return filepath.Join(g.dir, g.ID+".exec") }

// Await waits until the guest has booted and can be reached.
func (g *Guest) Await(ctx context.Context) error {
	for {
		err := g.there()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("guest %s can't be reached: %w: %w", g.ID, err, context.Cause(ctx))
		}
	}
}

func (g *Guest) there() error {
	for _, path := range []string{g.Socket(), g.commands()} {
		if info, err := os.Stat(path); err != nil {
			return err
		} else if info.Mode()&fs.ModeSocket == 0 {
			return fmt.Errorf("%s is no socket", path)
		}
	}
	return nil
}

// CSI connects to the node plugin in the guest.
func (g *Guest) CSI(ctx context.Context) (*grpc.ClientConn, error) {
	if err := g.Await(ctx); err != nil {
		return nil, err
	}
	return grpc.NewClient("unix:"+g.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
}

// Command is a program to run in the guest.
type Command = channel.Command

// Do runs a command and returns what it writes to its standard output. With the
// context the command ends, too.
func (g *Guest) Do(ctx context.Context, c Command) ([]byte, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", g.commands())
	if err != nil {
		return nil, fmt.Errorf("guest %s: %w", g.ID, err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var r channel.Result
	err = json.NewEncoder(conn).Encode(c)
	if err == nil {
		err = json.NewDecoder(conn).Decode(&r)
	}
	if err != nil {
		return nil, fmt.Errorf("guest %s: %s: %w", g.ID, strings.Join(c.Args, " "), errors.Join(err, context.Cause(ctx)))
	}
	if r.Failure != "" {
		return r.Output, fmt.Errorf("guest %s: %s: %s: %s%s", g.ID, strings.Join(c.Args, " "), r.Failure, r.Output, r.Errors)
	}
	return r.Output, nil
}

// Exec runs a program in the guest and returns what it writes. There are dash,
// the usual small programs, and what the node plugin needs.
func (g *Guest) Exec(ctx context.Context, args ...string) (string, error) {
	out, err := g.Do(ctx, Command{Args: args})
	return string(out), err
}
