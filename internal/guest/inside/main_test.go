package inside

import (
	"fmt"
	"os"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/guest/agent"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getpid() == 1:
		agent.Main()
	case os.Getenv(callVariable) != "":
		os.Exit(runCall(os.Getenv(callVariable)))
	case os.Getenv(agent.Inside) == "":
		fmt.Fprintln(os.Stderr, "these tests run in the guest: go test ./internal/guest")
	default:
		os.Exit(m.Run())
	}
}
