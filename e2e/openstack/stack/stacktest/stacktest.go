// Package stacktest finds the OpenStack that a test is for.
package stacktest

import (
	"os"
	"testing"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack"
)

// Required is the environment variable with which a missing OpenStack fails a
// test. `make e2e-openstack`, which starts one, sets it.
const Required = "CINDER_CSI_OPENSTACK_REQUIRED"

// Running returns the OpenStack that `make openstack-up` has started; nil where
// none runs and none is required.
func Running(t testing.TB) *stack.Cloud {
	t.Helper()
	cloud, err := stack.Load(stack.Dir())
	if err == nil {
		return cloud
	}
	if os.Getenv(Required) != "" {
		t.Fatal(err)
	}
	return nil
}

// Need is Running for a test that has nothing to show without one: it is skipped
// where none runs, as on a developer's machine, and run by `make e2e-openstack`.
func Need(t testing.TB) *stack.Cloud {
	t.Helper()
	cloud := Running(t)
	if cloud == nil {
		t.Skip("no OpenStack runs on this machine: make e2e-openstack runs this test")
	}
	return cloud
}
