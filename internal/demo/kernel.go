package demo

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// mountsBtrfsCopies reports whether this kernel can mount a copy of a btrfs
// beside its original: the two have one UUID, and before 6.7 the kernel takes
// them for one filesystem.
func mountsBtrfsCopies() (able bool, release string, err error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false, "", fmt.Errorf("read the kernel's version: %w", err)
	}
	release = unix.ByteSliceToString(name.Release[:])
	return atLeast(release, 6, 7), release, nil
}

// atLeast compares a kernel release, as "6.1.0-13-amd64", with a version. What
// cannot be read is taken for old.
func atLeast(release string, major, minor int) bool {
	var gotMajor, gotMinor int
	if n, err := fmt.Sscanf(strings.TrimSpace(release), "%d.%d", &gotMajor, &gotMinor); err != nil || n != 2 {
		return false
	}
	return gotMajor > major || gotMajor == major && gotMinor >= minor
}
