package loop

import (
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountsOf returns where the process sees the device mounted.
func mountsOf(process string, rdev uint64) []string {
	f, err := os.Open(process + "/mountinfo")
	if err != nil {
		return nil // the process has ended
	}
	defer func() { _ = f.Close() }()
	mounts, err := mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) {
		return !isMountOf(m, rdev, process), false
	})
	if err != nil {
		return nil // the process has ended; the exclusive open finds what is not found here
	}
	found := make([]string, len(mounts))
	for i, m := range mounts {
		found[i] = fmt.Sprintf("mount %s (%s)", m.Mountpoint, m.FSType)
	}
	return found
}

// isMountOf reports whether m is a mount of the device. Btrfs mounts have a device
// number of their own; there only the source tells, as the process sees it.
func isMountOf(m *mountinfo.Info, rdev uint64, process string) bool {
	if unix.Mkdev(uint32(m.Major), uint32(m.Minor)) == rdev {
		return true
	}
	return m.FSType == "btrfs" && strings.HasPrefix(m.Source, "/") &&
		(isNode(process+"/root"+m.Source, rdev) || isNode(m.Source, rdev))
}
