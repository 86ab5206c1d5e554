package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// build compiles the plugin as "make build" does and returns its path.
func build(b *testing.B) string {
	b.Helper()
	plugin := filepath.Join(b.TempDir(), "cinder-csi-plugin")
	c := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-tags", "grpcnotrace", "-o", plugin, "github.com/cinder-csi/cinder-csi/cmd/cinder-csi-plugin")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := c.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, output)
	}
	return plugin
}

// process is a running plugin.
type process struct {
	s     *stack
	cmd   *exec.Cmd
	conn  *grpc.ClientConn
	ready time.Duration
	ended bool
}

// start starts a plugin and waits for its first answer.
func (s *stack) start(plugin string, args ...string) *process {
	s.Helper()
	socket := filepath.Join(s.dir(), "csi.sock")
	p := &process{s: s, cmd: exec.CommandContext(context.Background(), plugin, append(args, "--endpoint=unix://"+socket)...)}
	var log strings.Builder
	p.cmd.Stderr = &log
	began := time.Now()
	s.must(p.cmd.Start())
	s.Cleanup(p.stop)
	for {
		conn, err := (&net.Dialer{}).DialContext(s.Context(), "unix", socket)
		if err == nil {
			s.must(conn.Close())
			break
		}
		if time.Since(began) > 20*time.Second {
			s.Fatalf("the plugin does not serve: %s", log.String())
		}
		time.Sleep(time.Millisecond)
	}
	p.conn = s.connect("unix://" + socket)
	_, err := csi.NewIdentityClient(p.conn).Probe(s.Context(), &csi.ProbeRequest{})
	s.must(err)
	p.ready = time.Since(began)
	return p
}

// stop ends the process, which has to end well.
func (p *process) stop() {
	if p.ended {
		return
	}
	p.ended = true
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.s.Error(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.s.Errorf("the plugin ended with %v", err)
	}
}

// mebibytes reads one of the sizes in /proc/PID/status.
func (p *process) mebibytes(field string) float64 {
	p.s.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	p.s.must(err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			p.s.must(err)
			return kib / 1024
		}
	}
	p.s.Fatalf("/proc knows no %s", field)
	return 0
}
