package driver

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// secretOf is a secret with an application credential of a new cloud.
func secretOf(t *testing.T) map[string]string {
	t.Helper()
	c, err := devcloud.Start(t.Context(), devcloud.Config{StateDir: filepath.Join(t.TempDir(), "cloud"), Disks: devcloud.DisksNone, Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	accounts, err := c.Admin().Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts {
		if a.User == "demo" {
			return map[string]string{"auth-url": c.AuthURL(), "application-credential-id": a.CredentialID, "application-credential-secret": a.CredentialSecret}
		}
	}
	t.Fatal("there is no demo user")
	return nil
}

// counted is how tenants connect, with a counter.
func counted(n *atomic.Int32) func(context.Context, openstack.CloudConfig) (*openstack.Client, error) {
	return func(ctx context.Context, cfg openstack.CloudConfig) (*openstack.Client, error) {
		n.Add(1)
		return openstack.Connect(ctx, cfg, openstack.Options{})
	}
}

func (t *tenants) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

func TestCallsWithTheSameCredentialsShareAConnection(t *testing.T) {
	var connected atomic.Int32
	ten := newTenants(counted(&connected), volumes.Options{}, time.Hour)
	defer ten.close()
	one, two := secretOf(t), secretOf(t)
	services := make([]*volumes.Service, 20)
	var group sync.WaitGroup
	for i := range services {
		group.Go(func() {
			service, release, err := ten.use(t.Context(), []map[string]string{one, two}[i%2])
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if _, _, err := service.List(t.Context(), cloud.Page{}); err != nil {
				t.Error(err)
			}
			services[i] = service
		})
	}
	group.Wait()
	for i := range services {
		if services[i] != services[i%2] {
			t.Errorf("call %d has a service of its own", i)
		}
	}
	if services[0] == services[1] || connected.Load() != 2 || ten.count() != 2 {
		t.Errorf("%d connections, %d kept", connected.Load(), ten.count())
	}
}

func TestATenantGoesWhenItIsIdleAndNotBefore(t *testing.T) {
	var connected atomic.Int32
	ten := newTenants(counted(&connected), volumes.Options{}, 30*time.Millisecond)
	defer ten.close()
	secret := secretOf(t)
	_, release, err := ten.use(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if ten.count() != 1 {
		t.Fatal("it went during a call")
	}
	release()
	for deadline := time.Now().Add(10 * time.Second); ten.count() != 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it stays")
		}
	}
	_, release, err = ten.use(t.Context(), secret)
	if err != nil || connected.Load() != 2 {
		t.Fatalf("%d connections, %v", connected.Load(), err)
	}
	release()
}

func TestListingTenantsDoesNotKeepThemAndDoesNotEndThem(t *testing.T) {
	var connected atomic.Int32
	ten := newTenants(counted(&connected), volumes.Options{}, 30*time.Millisecond)
	defer ten.close()
	none := map[string]bool{}
	if list, done := ten.all(none); len(list) != 0 {
		t.Errorf("%v before anybody came", list)
	} else {
		done()
	}
	secret := secretOf(t)
	_, release, err := ten.use(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	first, done := ten.all(none)
	if len(first) != 1 {
		t.Fatalf("%d tenants", len(first))
	}
	release()
	// The list takes longer than the tenant may be idle.
	time.Sleep(100 * time.Millisecond)
	if _, _, err := first[0].Service.List(t.Context(), cloud.Page{}); err != nil || ten.count() != 1 {
		t.Errorf("%d tenants during the list: %v", ten.count(), err)
	}
	done()
	for deadline := time.Now().Add(10 * time.Second); ten.count() != 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it stays")
		}
		// Who lists all the time does not keep it.
		_, done := ten.all(none)
		done()
	}
	if _, release, err = ten.use(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	defer release()
	again, done := ten.all(none)
	done()
	if len(again) != 1 || again[0].Name == first[0].Name {
		t.Errorf("%+v, then %+v", first, again)
	}
}

func TestOneProjectIsListedOnce(t *testing.T) {
	var connected atomic.Int32
	ten := newTenants(counted(&connected), volumes.Options{}, time.Hour)
	defer ten.close()
	secret := secretOf(t)
	other := maps.Clone(secret)
	other["os-endpoint-type"] = "public"
	for _, s := range []map[string]string{secret, other, secretOf(t)} {
		_, release, err := ten.use(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
	}
	list, done := ten.all(nil)
	done()
	if len(list) != 2 || list[0].Name != "secret:1" || list[1].Name != "secret:3" {
		t.Errorf("%+v", list)
	}
	for key, one := range ten.open {
		if one.number == 3 {
			list, done = ten.all(map[string]bool{one.client.Project(): true})
			done()
			if len(list) != 1 || list[0].Name != "secret:1" {
				t.Errorf("without %s: %+v", key, list)
			}
		}
	}
}

func TestAFailureToConnectIsToldAndNotKept(t *testing.T) {
	var connected atomic.Int32
	ten := newTenants(counted(&connected), volumes.Options{}, time.Hour)
	defer ten.close()
	secret := secretOf(t)
	right := secret["application-credential-secret"]
	secret["application-credential-secret"] = "wrong"
	for range 2 {
		if _, _, err := ten.use(t.Context(), secret); !errors.Is(err, cloud.ErrUnauthorized) {
			t.Errorf("got %v", err)
		}
	}
	if ten.count() != 0 || connected.Load() != 2 {
		t.Errorf("%d connections, %d kept", connected.Load(), ten.count())
	}
	secret["application-credential-secret"] = right
	if _, release, err := ten.use(t.Context(), secret); err != nil {
		t.Error(err)
	} else {
		release()
	}
	if _, _, err := ten.use(t.Context(), map[string]string{"clouds.yaml": "x"}); !errors.Is(err, cloud.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if service, _, err := ten.use(t.Context(), map[string]string{"cloud": "x"}); service != nil || err != nil {
		t.Errorf("got %v, %v", service, err)
	}
}

func TestACallThatGivesUpWhileConnecting(t *testing.T) {
	hanging := func(ctx context.Context, _ openstack.CloudConfig) (*openstack.Client, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ten := newTenants(hanging, volumes.Options{}, time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	secret := map[string]string{"auth-url": "http://127.0.0.1:1/v3", "application-credential-id": "a", "application-credential-secret": "b"}
	if _, _, err := ten.use(ctx, secret); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ten.close()
}
