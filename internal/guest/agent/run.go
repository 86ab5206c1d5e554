package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

const (
	// HostFD is the descriptor by which a test talks to the host, a stream of
	// requests and answers.
	HostFD = 3
	// Inside is set in the environment of the tests that run in the guest.
	Inside = "CINDER_CSI_INSIDE_GUEST"
	// atOnce is how many parts of a test may wait for something at the same time,
	// on one processor.
	atOnce = 4
	// grace is how long a test that has overrun its time may take to tell where.
	grace = 10 * time.Second
)

// test is a test that runs.
type test struct {
	host *wire.Conn
	// conn leads to the test, over ours.
	conn   *wire.Conn
	ours   *os.File
	output *io.PipeReader
	// wait waits for the end of the process.
	wait func() error
}

// start starts a test in a process of its own, so that one that panics or hangs
// ends nothing but itself.
func start(host *wire.Conn, order wire.Run) (*test, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), order.Timeout+grace)
	cmd := exec.CommandContext(ctx, "/init", "-test.run=^"+order.Test+"$", "-test.v=test2json",
		"-test.timeout="+order.Timeout.String(), "-test.parallel="+strconv.Itoa(atOnce))
	cmd.Env = append(os.Environ(), Inside+"=1")
	cmd.ExtraFiles = []*os.File{theirs} // becomes HostFD
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	// What a test has left running may hold its output open.
	cmd.WaitDelay = time.Second
	if err := errors.Join(cmd.Start(), theirs.Close()); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", order.Test, err)
	}
	wait := func() error {
		defer cancel()
		return errors.Join(cmd.Wait(), writer.Close())
	}
	return &test{host: host, conn: wire.NewConn(ours), ours: ours, output: reader, wait: wait}, nil
}

// pair returns two ends of a stream.
func pair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "test"), os.NewFile(uintptr(fds[1]), "host"), nil
}

// follow passes on what the test writes and wants, and then how it has ended.
func (t *test) follow() {
	var pumps errgroup.Group
	pumps.Go(t.lines)
	pumps.Go(t.requests)
	ended := wire.Ended{}
	err := t.wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		ended.Status, err = exit.ExitCode(), nil
	}
	err = errors.Join(err, pumps.Wait(), t.ours.Close())
	left, mountErr := leftovers()
	ended.Left = left
	if err = errors.Join(err, mountErr); err != nil {
		t.say("guest: " + err.Error())
		ended.Status = -1
	}
	_ = t.host.Send(wire.Message{Ended: &ended}) // else the host is gone
}

// lines passes on what the test writes.
func (t *test) lines() error {
	lines := bufio.NewScanner(t.output)
	for lines.Scan() {
		t.say(lines.Text())
	}
	// A test never waits for somebody who doesn't listen any more.
	_, err := io.Copy(io.Discard, t.output)
	return errors.Join(lines.Err(), err)
}

func (t *test) say(line string) {
	_ = t.host.Send(wire.Message{Output: &line}) // else the host is gone
}

// requests passes on what the test wants from the host.
func (t *test) requests() error {
	for {
		m, err := t.conn.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.host.Send(m); err != nil {
			return err
		}
	}
}

// leftovers returns what is mounted of what tests mount.
func leftovers() ([]string, error) {
	mounts, err := mountinfo.GetMounts(func(info *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(info.Mountpoint, "/tmp/") && !strings.HasPrefix(info.Mountpoint, "/var/lib/kubelet"), false
	})
	if err != nil {
		return nil, fmt.Errorf("mount table: %w", err)
	}
	var left []string
	for _, m := range mounts {
		left = append(left, m.Mountpoint)
	}
	return left, nil
}
