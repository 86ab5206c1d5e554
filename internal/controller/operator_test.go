package controller_test

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	gopherstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"

	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/openstack/openstacktest"
)

// operator returns Cinder as an administrator reaches it.
func (w *world) operator() *gophercloud.ServiceClient {
	w.Helper()
	accounts, err := w.admin.Accounts(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for _, a := range accounts {
		if a.User != "admin" {
			continue
		}
		provider, err := gopherstack.AuthenticatedClient(w.Context(), gophercloud.AuthOptions{
			IdentityEndpoint: w.cloud.AuthURL(), Username: a.User, Password: a.Password, DomainName: "Default", TenantID: a.ProjectID,
		})
		if err != nil {
			w.Fatal(err)
		}
		w.Cleanup(provider.HTTPClient.CloseIdleConnections)
		cinder, err := gopherstack.NewBlockStorageV3(provider, gophercloud.EndpointOpts{Region: "RegionOne"})
		if err != nil {
			w.Fatal(err)
		}
		return cinder
	}
	w.Fatal("there is no administrator")
	return nil
}

// resetStatus is what an administrator's `openstack volume set --state` does.
func (w *world) resetStatus(id, status string) {
	w.Helper()
	if err := volumes.ResetStatus(w.Context(), w.operator(), id, volumes.ResetStatusOpts{Status: status}).ExtractErr(); err != nil {
		w.Fatal(err)
	}
}

// connectAs logs in as a cloud.conf says.
func connectAs(t *testing.T, conf string) *openstack.Client {
	t.Helper()
	return openstacktest.Connect(t, conf, openstack.Options{Version: "test"})
}
