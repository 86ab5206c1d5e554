package loop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Holders are the users of a device that can be told by looking around. None
// found does not prove that there is none.
type Holders struct {
	Mounts []string // "mounted at /mnt"
	Others []string // processes, swap, block devices on top
}

// None reports whether no user was found.
func (h Holders) None() bool { return len(h.Mounts) == 0 && len(h.Others) == 0 }

// Lasting reports whether waiting a moment is pointless.
func (h Holders) Lasting() bool { return len(h.Mounts) > 0 }

// All returns a description of each user.
func (h Holders) All() []string { return append(append([]string(nil), h.Mounts...), h.Others...) }

// Held looks for users of d: mounts in every mount namespace that has a process,
// processes that have it open, swap, and block devices on top of it.
func Held(d Device) (Holders, error) {
	var held Holders
	stacked, err := os.ReadDir(filepath.Join(sysBlock, d.Name(), "holders"))
	if err != nil && !absent(err) {
		return Holders{}, fmt.Errorf("list the holders of %s: %w", d.Name(), err)
	}
	for _, entry := range stacked {
		held.Others = append(held.Others, "block device "+entry.Name())
	}
	if swapsOn(d.Rdev) {
		held.Others = append(held.Others, "swap")
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return Holders{}, fmt.Errorf("list processes: %w", err)
	}
	namespaces := map[string]bool{}
	for _, process := range append([]string{"/proc/self"}, processes...) {
		namespace, err := os.Readlink(process + "/ns/mnt")
		if err == nil && !namespaces[namespace] { // an error: the process has ended
			namespaces[namespace] = true
			held.Mounts = append(held.Mounts, mountsOf(process, d.Rdev)...)
		}
		if process != "/proc/self" && opens(process, d.Rdev) {
			held.Others = append(held.Others, describe(process))
		}
	}
	return held, nil
}

// swapsOn reports whether the device number is used for swap.
func swapsOn(rdev uint64) bool {
	text, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return false // a kernel without swap
	}
	for line := range strings.Lines(string(text)) {
		if path, _, ok := strings.Cut(line, " "); ok && isNode(path, rdev) {
			return true
		}
	}
	return false
}

// opens reports whether the process has the device open. Processes that end
// meanwhile have not.
func opens(process string, rdev uint64) bool {
	descriptors, err := os.ReadDir(process + "/fd")
	if err != nil {
		return false
	}
	for _, descriptor := range descriptors {
		if isNode(filepath.Join(process, "fd", descriptor.Name()), rdev) {
			return true
		}
	}
	return false
}

// isNode reports whether path leads to the block device. It never asks a remote
// file system, which might not answer.
func isNode(path string, rdev uint64) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK &&
		unix.Mkdev(st.Rdev_major, st.Rdev_minor) == rdev
}

// describe names a process for a message.
func describe(process string) string {
	name, err := os.ReadFile(process + "/comm")
	if err != nil {
		name = []byte("?")
	}
	return fmt.Sprintf("process %s (%s)", filepath.Base(process), strings.TrimSpace(string(name)))
}
