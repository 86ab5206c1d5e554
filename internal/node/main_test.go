package node_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/node/nodetest"
)

// TestMain also makes this binary the node plugin that some tests kill.
func TestMain(m *testing.M) {
	if nodetest.IsChild() {
		os.Exit(nodetest.Child(serveOnLoops))
	}
	goleak.VerifyTestMain(m)
}
