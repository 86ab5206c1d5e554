package filesystem

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CanGrowOnline tells whether this process may grow a mounted filesystem of
// that type: ext needs CAP_SYS_RESOURCE for it, the others don't. It says
// nothing about whether the type is supported.
func CanGrowOnline(fsType string) bool {
	if !isExt(fsType) {
		return true
	}
	status, err := os.ReadFile("/proc/self/status")
	return err == nil && hasCapability(string(status), unix.CAP_SYS_RESOURCE)
}

// hasCapability finds a capability in the effective set of a process's status.
func hasCapability(status string, capability uint) bool {
	lines := bufio.NewScanner(strings.NewReader(status))
	for lines.Scan() {
		value, ok := strings.CutPrefix(lines.Text(), "CapEff:")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		return err == nil && capability < 64 && set>>capability&1 == 1
	}
	return false
}
