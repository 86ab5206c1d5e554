package deployers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// grace is what Kubernetes gives a pod to end when its manifest says nothing.
	grace = 30 * time.Second
	// patience bounds the start and all calls, on a slow machine too.
	patience = 3 * time.Minute
	nobody   = 65532
)

// process is a plugin that runs in a container.
type process struct {
	conn  *grpc.ClientConn
	cmd   *exec.Cmd
	log   *bytes.Buffer // to be read once it has ended
	ended <-chan struct{}
}

// start runs a container's plugin. One that has the controller's role alone has
// what the image for that role has: the program, no tools and no rights. The
// context ends with the process, for the reason why that ended.
func start(t *testing.T, c container, files map[string]string, env map[string]string) (context.Context, *process) {
	t.Helper()
	root := newRoot(t, c, files)
	cmd := exec.CommandContext(context.Background(), "/bin/cinder-csi-plugin", c.arguments()...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, variables := range []map[string]string{env, c.Env} {
		for name, value := range variables {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if !c.isNode() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	log := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	ctx, end := context.WithCancelCause(context.Background())
	go func() {
		_ = cmd.Wait()
		end(fmt.Errorf("the plugin ended: %v", cmd.ProcessState))
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ctx.Done()
	})
	conn, err := grpc.NewClient("unix:"+filepath.Join(root, c.socket()), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond}}))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return ctx, &process{conn: conn, cmd: cmd, log: log, ended: ctx.Done()}
}

// stop asks the plugin to end, as the kubelet does.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("SIGTERM: %w", err)
	}
	select {
	case <-p.ended:
	case <-time.After(grace):
		return fmt.Errorf("SIGTERM: the plugin runs on after %v", grace)
	}
	if status := p.cmd.ProcessState.ExitCode(); status != 0 {
		return fmt.Errorf("SIGTERM: the exit status is %d", status)
	}
	return nil
}

// newRoot makes the root of a container.
func newRoot(t *testing.T, c container, files map[string]string) string {
	t.Helper()
	root, err := os.MkdirTemp("", "root-")
	must(t, err)
	must(t, os.Chmod(root, 0o755))
	socketDir := filepath.Dir(c.socket())
	for _, dir := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", socketDir} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	must(t, os.Link(os.Getenv(pluginVariable), filepath.Join(root, "bin/cinder-csi-plugin")))
	files = maps.Clone(files)
	files["/etc/hosts"] = "127.0.0.1 localhost\n" // the kubelet's
	for path, content := range files {
		path = filepath.Join(root, path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(content), 0o644))
	}
	mounts := []mount{{source: root}} // so that it can be made read-only
	if c.isNode() {
		for _, name := range []string{"usr", "lib", "lib64", "sbin"} {
			mounts = append(mounts, hostDirectory(t, root, name)...)
		}
	}
	for _, name := range []string{"proc", "sys", "dev"} {
		mounts = append(mounts, mount{source: "/" + name, target: name, flags: unix.MS_REC})
	}
	mounts = append(mounts, mount{fstype: "tmpfs", target: socketDir}) // an emptyDir
	for _, m := range mounts {
		must(t, m.in(root))
		t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(root, m.target), unix.MNT_DETACH)) })
	}
	must(t, os.Chmod(filepath.Join(root, socketDir), 0o777))
	if c.ReadOnlyRoot {
		must(t, unix.Mount("", root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
	return root
}

// mount is a mount of a container: of a source, or of a filesystem of a kind.
type mount struct {
	source, target, fstype string
	flags                  uintptr
}

func (m mount) in(root string) error {
	flags := m.flags
	if m.fstype == "" {
		flags |= unix.MS_BIND
	}
	if err := unix.Mount(m.source, filepath.Join(root, m.target), m.fstype, flags, ""); err != nil {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}

// hostDirectory shows the tools of this machine in the place of those of the node's
// image. Where /lib and the like are links into /usr, they are here, too.
func hostDirectory(t *testing.T, root, name string) []mount {
	t.Helper()
	link, err := os.Readlink("/" + name)
	if err == nil {
		must(t, os.Symlink(link, filepath.Join(root, name)))
		return nil
	}
	if _, err := os.Stat("/" + name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, os.Mkdir(filepath.Join(root, name), 0o755))
	return []mount{{source: "/" + name, target: name}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
