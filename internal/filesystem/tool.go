package filesystem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// tool runs a program, without a terminal and without a shell. It returns what
// the program wrote to its standard output and its exit status; err is for a
// program that couldn't be run or was killed.
func (f *FS) tool(name string, args ...string) (stdout string, status int, err error) {
	var out bytes.Buffer
	cmd := command(name, args...)
	cmd.Stdout = &out
	status, err = exitStatus(name, f.run(cmd))
	return out.String(), status, err
}

// writer runs a program that writes to a device. It gets a session of its own,
// so that an interrupt from a terminal, meant for this process, doesn't kill it
// half way. It returns all that the program wrote.
func (f *FS) writer(name string, args ...string) (output string, status int, err error) {
	var out bytes.Buffer
	cmd := command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	status, err = exitStatus(name, f.run(cmd))
	return strings.TrimSpace(out.String()), status, err
}

// command prepares a program that nothing stops before its end. It speaks
// English, which is part of what errors quote.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	return cmd
}

// exitStatus tells an exit status apart from a failure to run.
func exitStatus(name string, err error) (int, error) {
	if err == nil {
		return 0, nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return -1, fmt.Errorf("run %s: %w", name, err)
}

// failed makes an error of a program that ended with a status that isn't 0. It
// wraps ErrBusy when the program says that the device is in use, which all of
// them find out before they write.
func failed(name string, status int, output string) error {
	err := fmt.Errorf("%s: exit status %d: %s", name, status, words(output))
	for _, said := range []string{"Device or resource busy", "apparently in use by the system"} {
		if strings.Contains(output, said) {
			return fmt.Errorf("%w: %w", ErrBusy, err)
		}
	}
	return err
}

// words shortens what a program said to what fits into an error: its last lines.
func words(output string) string {
	const limit = 600
	output = strings.Join(strings.Fields(output), " ")
	if len(output) > limit {
		output = "… " + strings.ToValidUTF8(output[len(output)-limit:], "")
	}
	return output
}
