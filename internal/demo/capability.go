package demo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// hasCapability reports whether this process holds an effective capability,
// read from /proc/self/status; children inherit what it has.
func hasCapability(bit uint) (bool, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, fmt.Errorf("read capabilities: %w", err)
	}
	return capabilityIn(status, bit)
}

// capabilityIn looks for the bit in the CapEff line of a /proc/PID/status.
func capabilityIn(status []byte, bit uint) (bool, error) {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		hex, found := bytes.CutPrefix(lines.Bytes(), []byte("CapEff:"))
		if !found {
			continue
		}
		set, err := strconv.ParseUint(string(bytes.TrimSpace(hex)), 16, 64)
		if err != nil {
			return false, fmt.Errorf("read capabilities: %w", err)
		}
		return set&(1<<bit) != 0, nil
	}
	return false, errors.New("read capabilities: no CapEff line in /proc/self/status")
}
