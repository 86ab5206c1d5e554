package stacktest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dying tells the test that it is the process that ends without a word.
const dying = "CINDER_CSI_LAUNCH_AND_DIE"

func TestWhatWasLaunchedDoesNotOutliveATest(t *testing.T) {
	if os.Getenv(dying) != "" {
		cmd := exec.Command("sleep", "600")
		if _, err := Launch(cmd); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // threads that have nothing to do end meanwhile
		_, _ = fmt.Fprint(os.Stdout, cmd.Process.Pid)
		os.Exit(2)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), dying+"=1")
	out, _ := cmd.Output()
	pid := string(out)
	if cmd.ProcessState.ExitCode() != 2 || pid == "" {
		t.Fatalf("%v: %s", cmd.ProcessState, out)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		state, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s still runs", pid)
		}
	}
}

func TestLaunchTellsHowItEnded(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	ended, err := Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("got %v", err)
	}
	if _, err := Launch(exec.Command("/no/such/program")); err == nil {
		t.Error("a program that is missing was started")
	}
}
