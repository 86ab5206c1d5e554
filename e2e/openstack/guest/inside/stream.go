package inside

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os/exec"
	"time"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest/channel"
)

// forward connects a stream to the node plugin.
func forward(ctx context.Context, stream io.ReadWriteCloser) {
	conn, err := dial(ctx)
	if err != nil {
		return // the host's client sees that the connection ends, and tries again
	}
	done := make(chan struct{}, 2)
	copyTo := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from) // either end may go
		done <- struct{}{}
	}
	go copyTo(conn, stream)
	go copyTo(stream, conn)
	<-done
	_, _ = conn.Close(), stream.Close()
	<-done
}

// dial waits for a plugin that is just starting.
func dial(ctx context.Context) (net.Conn, error) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", pluginSocket)
		if err == nil || time.Now().After(deadline) {
			return conn, err
		}
	}
}

// execute runs the command that a stream asks for. When the host goes, it ends.
func execute(ctx context.Context, cancel func(), stream io.ReadWriteCloser) {
	var c channel.Command
	decoder := json.NewDecoder(stream)
	if err := decoder.Decode(&c); err != nil || len(c.Args) == 0 {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, stream) // ends with the stream
		cancel()
	}()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Input), &out, &errs
	cmd.WaitDelay = time.Second // for what it has left running
	var r channel.Result
	if err := cmd.Run(); err != nil {
		r.Failure = err.Error()
	}
	r.Output, r.Errors = out.Bytes(), errs.Bytes()
	_ = json.NewEncoder(stream).Encode(r) // else the host has gone
}
