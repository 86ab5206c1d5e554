package filesystem

import (
	"fmt"
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

// features lists them for a filesystem.
func features(fsType string) []feature {
	switch fsType {
	case xfs:
		return []feature{
			{"-m", "bigtime=0", version{5, 11}, version{5, 10}},
			{"-m", "inobtcount=0", version{5, 11}, version{5, 10}},
			{"-i", "nrext64=0", version{6, 0}, version{5, 19}},
			{"-i", "exchange=0", version{6, 10}, version{6, 10}},
			{"-n", "parent=0", version{6, 10}, version{6, 10}},
			{"-m", "metadir=0", version{6, 13}, version{6, 13}},
		}
	case ext4:
		return []feature{{"-O", "^orphan_file", version{1, 47}, version{5, 15}}}
	}
	return nil
}

// mountable returns the options of mkfs, as option and value in turn, that turn
// off what the kernel couldn't mount.
func mountable(fsType string, tool, kernel version) []string {
	var options []string
	for _, f := range features(fsType) {
		if !tool.before(f.tool) && kernel.before(f.kernel) {
			options = append(options, f.section, f.off)
		}
	}
	return options
}
