package node_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also makes this binary the node plugin that some tests kill.
func TestMain(m *testing.M) {
	if call := os.Getenv(callVariable); call != "" {
		os.Exit(runCall(call))
	}
	goleak.VerifyTestMain(m)
}
