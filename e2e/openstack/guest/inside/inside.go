// Package inside is what runs in a guest: its first process, which starts udev
// and the node plugin, and serves the host through the port of the guest agent.
package inside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/guest/system"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest/channel"
)

// Where the plugin is in the guest, where it listens, and where its log goes.
const (
	Plugin       = "/usr/bin/cinder-csi-plugin"
	pluginSocket = "/csi/csi.sock"
	PluginLog    = "/run/cinder-csi-plugin.log"
)

// patience is how long a host may be connected without saying hello. Then the
// port is closed: whoever else holds it at the other end lets go of it.
const patience = 5 * time.Second

// Main runs as process 1. It ends only when the guest can't start: then it
// switches the machine off, having told the console why.
func Main() {
	fmt.Fprintf(os.Stderr, "guest: %v\n", run())
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Fprintf(os.Stderr, "guest: power off: %v\n", err)
	}
}

// run returns when the guest can't start, and why.
func run() error {
	if err := system.Start(); err != nil {
		return err
	}
	id, err := os.ReadFile("/sys/class/dmi/id/product_uuid")
	if err != nil {
		return err
	}
	if err := os.MkdirAll("/csi", 0o755); err != nil { //nolint:gosec // as a kubelet makes it
		return err
	}
	go plugin()
	for {
		if err := serve(strings.ToLower(strings.TrimSpace(string(id)))); err != nil && !errors.Is(err, channel.ErrNobody) {
			fmt.Fprintf(os.Stderr, "guest: the host: %v\n", err)
		}
		time.Sleep(time.Second)
	}
}

// plugin runs the node plugin, and runs it again when it has ended, as a kubelet
// does.
func plugin() {
	for {
		if err := runPlugin(); err != nil {
			fmt.Fprintf(os.Stderr, "guest: the node plugin: %v\n", err)
		}
		time.Sleep(time.Second)
	}
}

// runPlugin runs it with the flags of a node and no other. Who it is, it has to
// find out.
func runPlugin() error {
	log, err := os.OpenFile(PluginLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(Plugin, "--endpoint=unix://"+pluginSocket, "--provide-controller-service=false") //nolint:noctx // it has no end
	cmd.Stdout, cmd.Stderr = log, log
	return errors.Join(cmd.Run(), log.Close())
}

// serve opens the port, waits for a host, and does what it asks for until it
// goes.
func serve(name string) error {
	port, err := system.OpenPort(channel.Port)
	if err != nil {
		return err
	}
	session, err := channel.Guest(&waiting{File: port}, name, patience)
	if err != nil {
		return errors.Join(err, port.Close())
	}
	defer func() { _ = session.Close() }() // closes the port, too
	for {
		stream, err := session.Accept()
		if err != nil {
			return fmt.Errorf("has gone: %w", err)
		}
		go handle(stream)
	}
}

// waiting is a port that waits for the first byte of a host. While none is
// connected, the port reads as ended.
type waiting struct {
	*os.File

	begun bool
}

// Read implements io.Reader.
func (w *waiting) Read(p []byte) (int, error) {
	for {
		n, err := w.File.Read(p)
		if n > 0 {
			w.begun = true
		}
		if w.begun || !errors.Is(err, io.EOF) {
			return n, err
		}
		// The time counts from when a host has connected.
		time.Sleep(100 * time.Millisecond)
		if err := w.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return 0, err
		}
	}
}

// handle serves one stream.
func handle(stream io.ReadWriteCloser) {
	defer func() { _ = stream.Close() }()
	var kind [1]byte
	if _, err := io.ReadFull(stream, kind[:]); err != nil {
		return // the host has gone
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch channel.Kind(kind[0]) {
	case channel.CSI:
		forward(ctx, stream)
	case channel.Exec:
		execute(ctx, cancel, stream)
	}
}
