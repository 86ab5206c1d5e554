package filesystem

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// interruptedVariable has this binary run a tool that takes a second and tells its
// session, and survive interrupts itself.
const interruptedVariable = "CINDER_CSI_FILESYSTEM_TEST_INTERRUPTED"

func runInterrupted() int {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt) // as the driver does
	output, status, err := New(Options{}).Tool(context.Background(), nil, "sh", "-c", "echo begun > "+os.Getenv(interruptedVariable)+"; sleep 1; cut -d' ' -f6 /proc/$$/stat")
	fmt.Fprint(os.Stdout, output)
	if err != nil || status != 0 {
		fmt.Fprintln(os.Stderr, status, err)
		return 1
	}
	return 0
}

// An interrupt from the terminal reaches all that run in the foreground.
func TestAnInterruptFromATerminalEndsNoTool(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = master.Close() }()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()

	begun := t.TempDir() + "/begun"
	child := exec.CommandContext(soon(t), os.Args[0])
	child.Env = append(os.Environ(), interruptedVariable+"="+begun)
	child.Stdin = terminal
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	go func() {
		for ; ; time.Sleep(10 * time.Millisecond) { // until the tool runs, or the test is over
			if _, err := os.Stat(begun); err == nil {
				break
			}
			if t.Context().Err() != nil {
				return
			}
		}
		_, _ = master.Write([]byte{3}) // Ctrl-C
	}()
	out, err := child.CombinedOutput()
	session, notANumber := strconv.Atoi(string(out))
	if err != nil || notANumber != nil || session == child.Process.Pid {
		t.Errorf("the tool said %q in the session %d of its parent: %v", out, child.Process.Pid, err)
	}
}

// Without a terminal nobody pays for that.
func TestAToolSharesTheSessionWhereThereIsNoTerminal(t *testing.T) {
	child := exec.CommandContext(soon(t), os.Args[0])
	child.Env = append(os.Environ(), interruptedVariable+"="+t.TempDir()+"/begun")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := child.CombinedOutput()
	if err != nil || string(out) != strconv.Itoa(child.Process.Pid) {
		t.Errorf("the tool said %q, its parent's session is %d: %v", out, child.Process.Pid, err)
	}
}
