// Package machine runs a guest: QEMU with a serial port to the agent inside,
// and disks that come, go and grow while it runs.
package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/guest/image"
	"github.com/cinder-csi/cinder-csi/internal/guest/qmp"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// program is the emulator.
const program = "qemu-system-x86_64"

const (
	// answerTime bounds what plugging, pulling or resizing a disk takes.
	answerTime = 30 * time.Second
	// resetTime bounds what pulling all disks takes, of which there may be
	// many: a guest that is emulated on a busy machine needs a second for each.
	resetTime = 90 * time.Second
)

// Config is what a machine is made of.
type Config struct {
	// Image is what it boots from.
	Image *image.Image
	// Accelerator is TCG or KVM.
	Accelerator Accelerator
	// BootVolume is the serial of the disk that is there from the start: the id
	// of the volume that the server was booted from.
	BootVolume string
	// Server and OtherServer are meta_data.json of this server, for its config
	// drive, and of another one, for an impostor.
	Server, OtherServer []byte
	// Relay is a command that speaks for the metadata service on its standard
	// input and output; it is run for every connection.
	Relay string
}

// Machine is a running guest.
type Machine struct {
	// Agent leads to the agent inside.
	Agent *wire.Conn

	cfg     Config
	monitor *qmp.Client
	console transcript
	boot    *os.File
	wires   []net.Conn
	process *os.Process
	ended   chan struct{} // closed when QEMU has ended

	mu        sync.Mutex
	count     int
	throttles bool // the groups of disks that can hang are made
	disks     map[string]*disk
	delayed   sync.WaitGroup
	failed    []error // of what was delayed
}

// Start starts a machine; it is booting when Start returns. The machine ends
// with Close, or with this process however that ends.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	boot, err := bootDisk(ctx)
	if err != nil {
		return nil, fmt.Errorf("boot disk: %w", err)
	}
	m := &Machine{cfg: cfg, boot: boot, ended: make(chan struct{}), disks: map[string]*disk{}}
	if err := m.launch(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), m.Close())
	}
	return m, nil
}

// launch starts QEMU and begins to talk to it.
func (m *Machine) launch(ctx context.Context) error {
	var theirs []*os.File
	closeTheirs := func() {
		for _, f := range theirs {
			_ = f.Close() // QEMU has its own
		}
	}
	for range 3 {
		host, guest, err := wirePair()
		if err != nil {
			closeTheirs()
			return err
		}
		m.wires, theirs = append(m.wires, host), append(theirs, guest)
	}
	// Whoever runs the tests has other things to do meanwhile.
	cmd := exec.Command("nice", append([]string{"-n", "10", program}, m.arguments()...)...) //nolint:noctx // ends by Close
	cmd.ExtraFiles = theirs                                                                 // from descriptor 3 on: monitor, agent, console
	cmd.Stdout, cmd.Stderr = &m.console, &m.console
	err := m.run(cmd)
	closeTheirs() // before anybody listens: else nobody hears that QEMU has ended
	if err != nil {
		return err
	}
	go m.console.copyFrom(m.wires[2])
	m.Agent = wire.NewConn(m.wires[1])
	monitor, err := qmp.New(ctx, m.wires[0])
	if err != nil {
		return fmt.Errorf("%w: %s", err, m.Console())
	}
	m.monitor = monitor
	return nil
}

// run starts a command that is killed when this process ends. The kernel ties
// that to the thread which has started it, so that thread stays and waits.
func (m *Machine) run(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		m.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ends is told by what no longer answers
			close(m.ended)
		}
	}()
	return <-started
}

// wirePair returns two ends of a stream, one of which is for a child.
func wirePair() (host net.Conn, guest *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "host")
	guest = os.NewFile(uintptr(fds[1]), "guest")
	host, err = net.FileConn(ours) // a copy
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(err, guest.Close())
	}
	return host, guest, nil
}

// Console returns what the kernel and QEMU have written so far.
func (m *Machine) Console() string { return m.console.String() }

// Kill ends the machine at once.
func (m *Machine) Kill() {
	if m.process != nil {
		_ = m.process.Kill() // it fails only for what has ended
		<-m.ended
	}
}

// Close ends the machine at once and removes all that was made for it.
func (m *Machine) Close() error {
	m.Kill()
	var errs []error
	m.delayed.Wait()
	for _, w := range m.wires {
		_ = w.Close() // nobody is at the other end
	}
	for _, d := range m.disks {
		errs = append(errs, d.file.Close())
	}
	return errors.Join(append(errs, m.boot.Close())...)
}

// PowerOff lets the guest end in order and waits for it.
func (m *Machine) PowerOff(ctx context.Context) error {
	if err := m.Agent.Send(wire.Message{Off: true}); err != nil {
		return err
	}
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("power off: %w", context.Cause(ctx))
	}
}

// AwaitReady waits until the agent says that the guest has started.
func (m *Machine) AwaitReady(ctx context.Context) (wire.Ready, error) {
	type result struct {
		message wire.Message
		err     error
	}
	first := make(chan result, 1)
	go func() {
		message, err := m.Agent.Receive()
		first <- result{message, err}
	}()
	select {
	case r := <-first:
		if r.err != nil || r.message.Ready == nil {
			return wire.Ready{}, fmt.Errorf("the guest does not start: %w", errors.Join(r.err, errors.New(m.Console())))
		}
		return *r.message.Ready, nil
	case <-m.ended:
		return wire.Ready{}, fmt.Errorf("the guest has ended before it was ready: %s", m.Console())
	case <-ctx.Done():
		return wire.Ready{}, fmt.Errorf("the guest does not start: %w: %s", context.Cause(ctx), m.Console())
	}
}

// transcript keeps what the console says.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

// String returns all of it.
func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

func (t *transcript) copyFrom(conn net.Conn) {
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		_, _ = t.Write(buffer[:n]) // never fails
		if err != nil {
			return
		}
	}
}
