package inside

import (
	"fmt"
	"os"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/guest/agent"
	"github.com/cinder-csi/cinder-csi/internal/node/nodetest"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getpid() == 1:
		agent.Main()
	case nodetest.IsChild():
		os.Exit(nodetest.Child(serveHere))
	case os.Getenv(agent.Inside) == "":
		fmt.Fprintln(os.Stderr, "these tests run in the guest: go test ./internal/guest")
	default:
		os.Exit(m.Run())
	}
}
