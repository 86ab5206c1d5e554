package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	utilexec "k8s.io/utils/exec"
)

// tool runs a program, without a terminal and without a shell. It returns what
// the program wrote to its standard output and its exit status; err is for a
// program that couldn't be run or was killed. ctx doesn't end it.
func (f *FS) tool(ctx context.Context, name string, args ...string) (stdout string, status int, err error) {
	cmd := f.exec.Command(name, args...)
	cmd.SetEnv(toolEnv())
	var out []byte
	status, err = f.seen.program(ctx, name, func() (err error) {
		out, err = cmd.Output()
		return err
	})
	return string(out), status, err
}

// Tool runs a program that may write to a device, as mkfs is run: without a
// shell, to its end. Where this process has a terminal the program gets a session
// of its own, so that an interrupt meant for this process doesn't kill it half
// way; elsewhere that would only cost 0.7 ms. It reads stdin by a pipe, where
// nobody else can see it. It returns the end of what the program wrote, and its
// exit status; err is for a program that couldn't be run or was killed. ctx doesn't end
// it, but carries the span that the program's belongs to.
func (f *FS) Tool(ctx context.Context, stdin io.Reader, name string, args ...string) (output string, status int, err error) {
	program := name
	if hasTerminal() {
		if setsid, err := f.exec.LookPath("setsid"); err == nil {
			program, args = setsid, append([]string{name}, args...)
		}
	}
	cmd := f.exec.Command(program, args...)
	cmd.SetEnv(toolEnv())
	if stdin != nil {
		cmd.SetStdin(stdin)
	}
	var end tail
	cmd.SetStdout(&end)
	cmd.SetStderr(&end)
	status, err = f.seen.program(ctx, name, cmd.Run)
	return strings.TrimSpace(string(end.kept)), status, err
}

// change runs a program as Tool does, and fails unless its exit status is 0.
func (f *FS) change(ctx context.Context, name string, args ...string) error {
	output, status, err := f.Tool(ctx, nil, name, args...)
	if err == nil && status != 0 {
		err = Failed(name, status, output)
	}
	return err
}

// tail keeps the end of what is written to it: e2fsck has a line for everything
// that it repairs, of which a disk may hold millions.
type tail struct{ kept []byte }

// maxOutput is how many bytes of a program's output are kept.
const maxOutput = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - maxOutput; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	return len(p), nil
}

// hasTerminal tells whether a terminal can interrupt this process. Whatever isn't
// a clear no counts as yes.
func hasTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err == nil {
		_ = tty.Close()
	}
	return !errors.Is(err, unix.ENXIO)
}

// toolEnv makes the tools speak English, which is part of what errors quote, and
// those that make mappings not wait for udev's word, which doesn't reach a
// container: they would wait forever.
func toolEnv() []string {
	return append(os.Environ(), "LC_ALL=C", "DM_DISABLE_UDEV=1")
}

// exitStatus tells an exit status apart from a failure to run.
func exitStatus(name string, err error) (int, error) {
	if err == nil {
		return 0, nil
	}
	var exit utilexec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitStatus(), nil
	}
	return -1, fmt.Errorf("run %s: %w", name, err)
}

// markBusy wraps err with ErrBusy when a program said that the device is in use.
func markBusy(err error, output string) error {
	for _, phrase := range []string{
		"Device or resource busy", "apparently in use by the system", "already mounted or mount point busy",
		"is in use.\ne2fsck: Cannot continue, aborting.",
	} {
		if strings.Contains(output, phrase) {
			return fmt.Errorf("%w: %w", ErrBusy, err)
		}
	}
	return err
}

// Failed makes an error of a program that Tool ran and that ended with a status
// that isn't 0, with the last of its words. It wraps ErrBusy when the program
// says that the device is in use, which all of them find out before they write.
func Failed(name string, status int, output string) error {
	return markBusy(fmt.Errorf("%s: exit status %d: %s", name, status, words(output)), output)
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
