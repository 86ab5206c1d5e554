package filesystem

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// version is the first numbers of a version.
type version struct{ major, minor int }

func (v version) before(w version) bool {
	return v.major < w.major || v.major == w.major && v.minor < w.minor
}

// parseVersion reads the first major.minor in a text such as "6.1.0-56-cloud"
// or "mkfs.xfs version 6.1.0".
func parseVersion(s string) (version, bool) {
	start := strings.IndexAny(s, "0123456789")
	if start < 0 {
		return version{}, false
	}
	parts := strings.SplitN(s[start:], ".", 3)
	if len(parts) < 2 {
		return version{}, false
	}
	end := strings.IndexFunc(parts[1], func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		parts[1] = parts[1][:end]
	}
	major, err := strconv.Atoi(parts[0])
	if err != nil {
		return version{}, false
	}
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		return version{}, false
	}
	return version{major, minor}, true
}

// kernelVersion returns the version of the running kernel.
func kernelVersion() (version, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return version{}, fmt.Errorf("uname: %w", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	v, ok := parseVersion(release)
	if !ok {
		return version{}, fmt.Errorf("kernel release %q has no version", release)
	}
	return v, nil
}

// feature is one that newer tools turn on by themselves and older kernels
// refuse to mount.
type feature struct {
	section string  // the option of mkfs it belongs to
	off     string  // what turns it off there
	tool    version // mkfs that knows it
	kernel  version // kernel that mounts it
}

// mountable returns the options of mkfs, as option and value in turn, that turn
// off what the kernel couldn't mount.
func mountable(fsType string, tool, kernel version) []string {
	var options []string
	k, _ := kindOf(fsType)
	for _, f := range k.features {
		if !tool.before(f.tool) && kernel.before(f.kernel) {
			options = append(options, f.section, f.off)
		}
	}
	return options
}

// CanGrowOnline tells whether this process may grow a mounted filesystem of
// that type: ext needs CAP_SYS_RESOURCE for it, the others don't. Of one that
// isn't supported none is.
func CanGrowOnline(fsType string) bool {
	if k, ok := kindOf(fsType); !ok || !k.ext {
		return ok
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
