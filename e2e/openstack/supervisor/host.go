package supervisor

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Become runs a program in place of this process, on what looks to it like a
// machine of its own: with another name, and with the given mounts. What is
// mounted elsewhere later is seen there only below shared mounts.
func Become(hostname string, mounts []Mount, program string, args ...string) error {
	// The namespaces are the thread's, until the program takes its place.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("leave the namespaces: %w", err)
	}
	// What is mounted here is nobody else's to see.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts to itself: %w", err)
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("take the name %s: %w", hostname, err)
	}
	for _, m := range mounts {
		if err := os.MkdirAll(m.Target, 0o755); err != nil { //nolint:gosec // as the distribution makes it
			return err
		}
		if err := unix.Mount(m.Source, m.Target, m.Type, m.Flags, m.Options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Source, m.Target, err)
		}
	}
	path, err := lookup(program)
	if err != nil {
		return err
	}
	return errors.Join(fmt.Errorf("run %s", path), unix.Exec(path, append([]string{program}, args...), os.Environ()))
}
