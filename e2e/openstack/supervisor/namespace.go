package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is something that the services see and the machine doesn't.
type Mount struct {
	Source, Target, Type, Options string
	Flags                         uintptr
}

// Bind is a folder in the place of another one.
func Bind(source, target string) Mount {
	return Mount{Source: source, Target: target, Flags: unix.MS_BIND}
}

// Shared makes a mount point one of which mount namespaces that are made later
// see what is mounted below it.
func Shared(target string) Mount {
	return Mount{Source: "none", Target: target, Flags: unix.MS_SHARED}
}

// Enter makes the mount namespace that the process was started in one of its
// own, with a /proc of its processes, a /run of its own, and the given mounts.
// What others have mounted is let go of, but for what dir lies on: a copy of
// their mounts would keep their disks busy. It refuses to work outside of a
// namespace.
func Enter(dir string, mounts ...Mount) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("process %d is not the first of a PID namespace", os.Getpid())
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := leave(dir); err != nil {
		return err
	}
	all := append([]Mount{
		{Source: "proc", Target: "/proc", Type: "proc"},
		{Source: "tmpfs", Target: "/run", Type: "tmpfs", Options: "mode=755"},
	}, mounts...)
	for _, m := range all {
		if err := unix.Mount(m.Source, m.Target, m.Type, m.Flags, m.Options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", strings.TrimSpace(m.Source+" "+m.Type), m.Target, err)
		}
	}
	return nil
}

// leave unmounts what the services need nothing of, the newest first.
func leave(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var points []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 {
			points = append(points, fields[4])
		}
	}
	slices.Reverse(points)
	for _, point := range points {
		if needed(point, dir) {
			continue
		}
		// One below it may have taken it along.
		err := unix.Unmount(point, unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("let go of %s: %w", point, err)
		}
	}
	return nil
}

// needed reports whether a mount point is of the system, or above dir. A machine
// may have its programs on a disk of their own, and a container its /etc/hosts.
func needed(point, dir string) bool {
	for _, system := range []string{"/proc", "/sys", "/dev", "/usr", "/etc"} {
		if point == system || strings.HasPrefix(point, system+"/") {
			return true
		}
	}
	return point == "/" || point == dir || strings.HasPrefix(dir, point+"/")
}
