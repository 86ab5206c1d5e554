package devcloud_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/attachments"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/backups"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/instanceactions"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/volumeattach"
	"github.com/gophercloud/gophercloud/v2/openstack/utils"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// sdk logs in with gophercloud.
func sdk(t *testing.T, cloud *devcloud.Cloud, auth gophercloud.AuthOptions) (cinder, nova *gophercloud.ServiceClient) {
	t.Helper()
	ctx := t.Context()
	auth.IdentityEndpoint, auth.AllowReauth = cloud.AuthURL(), auth.TokenID == ""
	provider, err := openstack.NewClient(auth.IdentityEndpoint)
	if err != nil {
		t.Fatal(err)
	}
	provider.HTTPClient = *transport(t)
	if err := openstack.Authenticate(ctx, provider, auth); err != nil {
		t.Fatal(err)
	}
	eo := gophercloud.EndpointOpts{Region: "RegionOne"}
	if cinder, err = openstack.NewBlockStorageV3(provider, eo); err != nil {
		t.Fatal(err)
	}
	if nova, err = openstack.NewComputeV2(provider, eo); err != nil {
		t.Fatal(err)
	}
	return cinder, nova
}

func settled(t *testing.T, cinder *gophercloud.ServiceClient, id, status string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := gophercloud.WaitFor(ctx, func(ctx context.Context) (bool, error) {
		v, err := volumes.Get(ctx, cinder, id).Extract()
		return err == nil && v.Status == status, err
	})
	if err != nil {
		t.Fatalf("volume %s is not %s: %v", id, status, err)
	}
}

func TestGophercloudLeadsAVolumeThroughItsLife(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	account := c.account("demo")
	for name, auth := range map[string]gophercloud.AuthOptions{
		"with a password": {Username: "demo", Password: account.Password, DomainName: "Default", TenantName: "demo"},
		"with an application credential": {
			ApplicationCredentialID: account.CredentialID, ApplicationCredentialSecret: account.CredentialSecret,
		},
		"with a token": {TokenID: c.token, TenantID: account.ProjectID},
	} {
		t.Run(name, func(t *testing.T) {
			cinder, nova := sdk(t, cloud, auth)
			life(t, cloud, cinder, nova)
		})
	}
}

func life(t *testing.T, cloud *devcloud.Cloud, cinder, nova *gophercloud.ServiceClient) {
	ctx := t.Context()
	cinder.Microversion, nova.Microversion = "3.70", "2.79"
	v, err := volumes.Create(ctx, cinder, volumes.CreateOpts{Name: "pvc-1", Size: 1, AvailabilityZone: "nova", Metadata: map[string]string{"k": "v"}}, nil).Extract()
	if err != nil || v.Status != "creating" {
		t.Fatalf("create: %v %v", v, err)
	}
	settled(t, cinder, v.ID, "available")
	server := cloud.ServerID("node1")
	if s, err := servers.Get(ctx, nova, server).Extract(); err != nil || s.AvailabilityZone != "nova" || s.Status != "ACTIVE" {
		t.Fatalf("server: %+v %v", s, err)
	}
	if _, err := volumeattach.Create(ctx, nova, server, volumeattach.CreateOpts{VolumeID: v.ID}).Extract(); err != nil {
		t.Fatal(err)
	}
	settled(t, cinder, v.ID, "in-use")
	if _, err := volumeattach.Create(ctx, nova, server, volumeattach.CreateOpts{VolumeID: v.ID}).Extract(); !gophercloud.ResponseCodeIs(err, http.StatusBadRequest) {
		t.Errorf("attach twice: %v", err)
	}
	copies(t, cinder, v.ID)
	if err := volumes.ExtendSize(ctx, cinder, v.ID, volumes.ExtendSizeOpts{NewSize: 2}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	settled(t, cinder, v.ID, "in-use")
	if err := volumeattach.Delete(ctx, nova, server, v.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	settled(t, cinder, v.ID, "available")
	pages, err := instanceactions.List(nova, server, nil).AllPages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if actions, err := instanceactions.ExtractInstanceActions(pages); err != nil || len(actions) == 0 {
		t.Errorf("actions: %v %v", actions, err)
	}
	if err := volumes.Delete(ctx, cinder, v.ID, nil).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	gone(t, func(ctx context.Context) error { return volumes.Get(ctx, cinder, v.ID).Err })
}

// copies makes and removes a snapshot and a backup.
func copies(t *testing.T, cinder *gophercloud.ServiceClient, volume string) {
	ctx := t.Context()
	snap, err := snapshots.Create(ctx, cinder, snapshots.CreateOpts{VolumeID: volume, Name: "s"}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	ready(t, func(ctx context.Context) (string, error) {
		s, err := snapshots.Get(ctx, cinder, snap.ID).Extract()
		if err != nil {
			return "", err
		}
		return s.Status, nil
	})
	if err := snapshots.Delete(ctx, cinder, snap.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	gone(t, func(ctx context.Context) error { return snapshots.Get(ctx, cinder, snap.ID).Err })
	b, err := backups.Create(ctx, cinder, backups.CreateOpts{VolumeID: volume, Name: "b", Force: true}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	ready(t, func(ctx context.Context) (string, error) {
		b, err := backups.Get(ctx, cinder, b.ID).Extract()
		if err != nil {
			return "", err
		}
		return b.Status, nil
	})
	if err := backups.Delete(ctx, cinder, b.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	gone(t, func(ctx context.Context) error { return backups.Get(ctx, cinder, b.ID).Err })
}

func ready(t *testing.T, status func(context.Context) (string, error)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s, err := status(t.Context())
		if err == nil && s == "available" {
			return
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("not available: %s %v", s, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func gone(t *testing.T, get func(context.Context) error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := get(t.Context())
		if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not gone: %v", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestGophercloudFindsTheHighestMicroversions(t *testing.T) {
	cloud := start(t, nil)
	account := login(t, cloud, "demo").account("demo")
	cinder, nova := sdk(t, cloud, gophercloud.AuthOptions{Username: "demo", Password: account.Password, DomainID: "default", TenantID: account.ProjectID})
	got, err := utils.GetSupportedMicroversions(t.Context(), nova)
	if err != nil || got.MaxMinor != 93 || got.MinMinor != 1 {
		t.Errorf("compute: %+v %v", got, err)
	}
	for _, path := range []string{"/volume/", "/volume/v3/", "/volume/v3"} {
		versions, err := utils.GetServiceVersions(t.Context(), cinder.ProviderClient, cloud.URL()+path, true)
		if err != nil || len(versions) != 1 || versions[0].MaxMinor != 70 || versions[0].MinMinor != 0 {
			t.Errorf("%s: %+v %v", path, versions, err)
		}
	}
}

func TestGophercloudReadsEveryList(t *testing.T) {
	cloud := start(t, nil)
	account := login(t, cloud, "demo").account("demo")
	cinder, _ := sdk(t, cloud, gophercloud.AuthOptions{Username: "demo", Password: account.Password, DomainID: "default", TenantID: account.ProjectID})
	cinder.Microversion = "3.70"
	ctx := t.Context()
	for range 5 {
		if _, err := volumes.Create(ctx, cinder, volumes.CreateOpts{Name: "same", Size: 1}, nil).Extract(); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := volumes.List(cinder, volumes.ListOpts{Name: "same", Limit: 2}).AllPages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := volumes.ExtractVolumes(pages); err != nil || len(list) != 5 {
		t.Errorf("volumes: %d %v", len(list), err)
	}
	if pages, err = volumetypes.List(cinder, nil).AllPages(ctx); err != nil {
		t.Fatal(err)
	}
	if list, err := volumetypes.ExtractVolumeTypes(pages); err != nil || len(list) != 5 {
		t.Errorf("types: %d %v", len(list), err)
	}
	if pages, err = attachments.List(cinder, nil).AllPages(ctx); err != nil {
		t.Fatal(err)
	}
	if l, err := limits.Get(ctx, cinder).Extract(); err != nil || l.Absolute.TotalVolumesUsed != 5 {
		t.Errorf("limits: %+v %v", l, err)
	}
	_ = pages
}
