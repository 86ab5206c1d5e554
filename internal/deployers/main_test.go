// Package deployers runs the plugin as those start it who install the reference
// driver: with their arguments, environment, files and classes, as testdata has
// them. A file there is a deployer; a new one needs nothing but its file.
package deployers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pluginVariable tells the test process that it is apart, and where the plugin is.
const pluginVariable = "CINDER_DEPLOYERS_PLUGIN"

// metadataAddress is where a server finds its metadata service.
const metadataAddress = "169.254.169.254"

// TestMain runs the tests with mounts, a loopback interface and processes of their
// own: so they have the metadata service's address and any port, and leave nothing
// behind, however they end.
func TestMain(m *testing.M) {
	status := 1
	var err error
	switch {
	case os.Geteuid() != 0:
		err = errors.New("it mounts, and changes its root: run it as root")
	case os.Getenv(pluginVariable) == "":
		status, err = runApart()
	default:
		if err = prepare(); err == nil {
			status = m.Run()
		}
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "deployers:", err)
	}
	os.Exit(status)
}

// runApart builds the plugin and runs this program again, apart.
func runApart() (status int, err error) {
	dir, err := os.MkdirTemp("", "cinder-csi-deployers-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	plugin := filepath.Join(dir, "cinder-csi-plugin")
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-o", plugin, "../../cmd/cinder-csi-plugin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the plugin: %w\n%s", err, out)
	}
	// The kernel kills the child when the thread dies that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	self.Args[0] = os.Args[0]
	self.Env = append(os.Environ(), pluginVariable+"="+plugin, "TMPDIR="+dir)
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	err = self.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return self.ProcessState.ExitCode(), err
}

// prepare keeps the mounts of this process to itself, and brings its loopback
// interface up, with the metadata service's address.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer func() { _ = unix.Close(socket) }()
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	alias, err := unix.NewIfreq("lo:0")
	if err != nil {
		return err
	}
	if err := alias.SetInet4Addr([]byte{169, 254, 169, 254}); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFADDR, alias); err != nil {
		return fmt.Errorf("give lo the address %s: %w", metadataAddress, err)
	}
	return nil
}
