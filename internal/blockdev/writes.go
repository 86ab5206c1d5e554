package blockdev

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Writes returns what the kernel has counted of writes to the block device with that
// number, discards included, as text that is the same as long as nothing is written.
func Writes(number uint64) (string, error) {
	return writes("/sys/dev/block/" + FormatNumber(number) + "/stat")
}

// UntouchedSince tells whether nothing was written to the disk since a time, by which
// it was attached to this server. The kernel counts from its start: a time before that
// is never vouched for. The clocks of the server and of who told the time are taken
// for the same. A loop device, which only a
// development cloud has, goes on counting when it gets another file, and passes for
// untouched.
func (d Disk) UntouchedSince(t time.Time) (bool, error) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return false, fmt.Errorf("when this server was started: %w", err)
	}
	if booted := time.Now().Add(-time.Duration(up.Nano())); !t.After(booted) {
		return false, nil
	}
	if strings.HasPrefix(d.Name, "loop") {
		return true, nil
	}
	written, err := writes(sysfs(cmp.Or(d.sysDir, "/sys")).block(d.Name, "stat"))
	if err != nil {
		return false, fmt.Errorf("volume %s: %w", d.VolumeID, err)
	}
	return strings.Trim(written, "0 ") == "", nil
}

// writes reads the numbers of writes and discards, and of their sectors, from a device's
// stat in sysfs. Kernels before 4.18 count no discards.
func writes(path string) (string, error) {
	counted, err := os.ReadFile(path) // #nosec G304 -- below sysfs
	if err != nil {
		return "", fmt.Errorf("what was written to a disk: %w", err)
	}
	fields := strings.Fields(string(counted))
	if len(fields) < 8 {
		return "", fmt.Errorf("what was written to a disk: %s says %q", path, counted)
	}
	written := fields[4] + " " + fields[6]
	if len(fields) > 13 {
		written += " " + fields[11] + " " + fields[13]
	}
	return written, nil
}
