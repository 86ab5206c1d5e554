package upstream

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Machine is what the machine that the nodes run on can do.
type Machine struct {
	// GrowsExt4InUse: processes may have CAP_SYS_RESOURCE.
	GrowsExt4InUse bool
	// SELinux is compiled in and enabled.
	SELinux bool
}

// capSysResource is the number of the capability that ext4 wants for growing.
const capSysResource = 24

// ThisMachine looks.
func ThisMachine() (Machine, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return Machine{}, fmt.Errorf("what processes may do here: %w", err)
	}
	bounding, err := boundingSet(string(status))
	if err != nil {
		return Machine{}, err
	}
	_, err = os.Stat("/sys/fs/selinux/enforce")
	return Machine{GrowsExt4InUse: bounding&(1<<capSysResource) != 0, SELinux: err == nil}, nil
}

// boundingSet returns the capabilities that no process can get beyond.
func boundingSet(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("CapBnd in /proc/self/status: %w", err)
			}
			return set, nil
		}
	}
	return 0, errors.New("no CapBnd in /proc/self/status")
}
