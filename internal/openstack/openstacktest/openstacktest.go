// Package openstacktest has a client of OpenStack for the tests of other packages.
package openstacktest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

// Connect logs in as the driver does: to the cloud without a name of a cloud.conf with
// that content. The client is closed when the test ends.
func Connect(tb testing.TB, conf string, opts openstack.Options) *openstack.Client {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	path := filepath.Join(tb.TempDir(), "cloud.conf")
	must(os.WriteFile(path, []byte(conf), 0o600))
	config, err := openstack.ReadConfig(path)
	must(err)
	section, err := config.Cloud("")
	must(err)
	client, err := openstack.Connect(tb.Context(), section, opts)
	must(err)
	tb.Cleanup(client.Close)
	return client
}
