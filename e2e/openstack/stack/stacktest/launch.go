package stacktest

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Launch starts a command that is killed when the test's process ends, however
// that ends. The kernel ties this to the thread that has started it, so that
// thread stays and waits. How the command ended is sent once.
func Launch(cmd *exec.Cmd) (<-chan error, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return ended, <-started
}
