// Package stacktest finds the OpenStack that a test is for.
package stacktest

import (
	"os"
	"testing"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack"
)

// Required is the environment variable by which a test is told to use the OpenStack
// that `make openstack-up` has started. e2e/openstack/run sets it.
const Required = "CINDER_CSI_OPENSTACK_REQUIRED"

// Running returns that OpenStack; nil where none is required. Unasked, a test leaves
// the one of this machine alone: somebody else's test may be using it, and each of
// them removes what it finds there.
func Running(t testing.TB) *stack.Cloud {
	t.Helper()
	if os.Getenv(Required) == "" {
		return nil
	}
	cloud, err := stack.Load(stack.Dir())
	if err != nil {
		t.Fatal(err)
	}
	return cloud
}

// Need is Running for a test that has nothing to show without one: it is skipped
// where none is required, as on a developer's machine.
func Need(t testing.TB) *stack.Cloud {
	t.Helper()
	cloud := Running(t)
	if cloud == nil {
		t.Skip("no OpenStack was asked for: make e2e-openstack runs this test")
	}
	return cloud
}
