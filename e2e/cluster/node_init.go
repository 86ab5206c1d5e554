package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// initGroup is the control group of a node's init and what it starts.
const initGroup = "init"

// initNamespaces are what a node doesn't share with the machine.
const initNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC

// Init is pid 1 of a node. It is started in its namespaces, and with a pipe for
// standard input, through which it is told that it is plugged in. It returns only
// when it fails, and the node goes down with it.
func Init(ctx context.Context, dir, node, serverID string) error {
	s, err := specOf(node)
	if err != nil {
		return err
	}
	if os.Getpid() != 1 {
		return errors.New("this is what a node starts, not a command")
	}
	p := Paths{Dir: dir}
	var word [1]byte
	if _, err := os.Stdin.Read(word[:]); err != nil {
		return fmt.Errorf("whoever started this node has died before it was plugged in: %w", err)
	}
	if err := p.enterRoot(s); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(node)); err != nil {
		return err
	}
	files, err := p.nodeFiles(s, serverID)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := f.write(); err != nil {
			return err
		}
	}
	if err := configureNetwork(ctx, s); err != nil {
		return err
	}
	return p.serveNode(s)
}

// configureNetwork sets up the node's end of its cable.
func configureNetwork(ctx context.Context, s spec) error {
	commands := [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", s.address() + "/" + strconv.Itoa(prefixBits), "dev", "eth0"},
		{"link", "set", "eth0", "up"},
		{"route", "add", "default", "via", hostIP},
	}
	for _, other := range specs() {
		if other.name != s.name {
			commands = append(commands, []string{"route", "add", other.podCIDR(), "via", other.address()})
		}
	}
	for _, args := range commands {
		if err := ip(ctx, args...); err != nil {
			return err
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

// serveNode runs the node's units as it is told through its socket.
func (p Paths) serveNode(s spec) error {
	logOf := func(name string) (*os.File, error) {
		return os.OpenFile(p.node(s.name, "log", name+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644) // #nosec G302 -- logs are for everyone
	}
	super := newSupervisor(logOf, p.unitsOf(s))
	go super.reap()
	if err := super.Start("containerd"); err != nil {
		return err
	}
	socket := p.node(s.name, "init.sock")
	if err := errors.Join(os.MkdirAll(filepath.Dir(socket), 0o755), removeIfThere(socket)); err != nil { // #nosec G301 -- see above
		return err
	}
	listener, err := net.Listen("unix", socket) //nolint:noctx // it listens as long as the node lives
	if err != nil {
		return err
	}
	server := &http.Server{Handler: super.handler(), ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(listener)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
