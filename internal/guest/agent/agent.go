// Package agent is the first process of the guest: it makes the system ready as
// an init does, and then runs one test after the other as the host says.
package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/guest/system"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// Main runs as process 1 and ends by switching the machine off. What goes wrong
// before the host can be told goes to the console.
func Main() {
	if err := serve(); err != nil {
		fmt.Fprintf(os.Stderr, "guest: %v\n", err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Fprintf(os.Stderr, "guest: power off: %v\n", err)
	}
}

func serve() error {
	if err := boot(); err != nil {
		return err
	}
	port, err := system.OpenPort(wire.Port)
	if err != nil {
		return err
	}
	host := wire.NewConn(port)
	ready, err := describe()
	if err != nil {
		return err
	}
	if err := host.Send(wire.Message{Ready: &ready}); err != nil {
		return err
	}
	return obey(host)
}

func describe() (wire.Ready, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return wire.Ready{}, fmt.Errorf("uname: %w", err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return wire.Ready{}, fmt.Errorf("uptime: %w", err)
	}
	return wire.Ready{Kernel: unix.ByteSliceToString(name.Release[:]), Uptime: time.Duration(now.Nano())}, nil
}

// obey does what the host says until it says that it's over.
func obey(host *wire.Conn) error {
	var current *test
	for {
		m, err := host.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case m.Off:
			return nil
		case m.Run != nil:
			if current, err = start(host, *m.Run); err != nil {
				return err
			}
			go current.follow()
		case m.Answer != nil && current != nil:
			// A test that has ended meanwhile doesn't hear it.
			_ = current.conn.Send(m)
		}
	}
}
