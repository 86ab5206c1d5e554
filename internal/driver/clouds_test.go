package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// startTenant starts a cloud, and returns it with a secret that leads to it.
func startTenant(t *testing.T) (*devcloud.Cloud, map[string]string) {
	t.Helper()
	c, err := devcloud.Start(t.Context(), devcloud.Config{
		StateDir: filepath.Join(t.TempDir(), "cloud"), Disks: devcloud.DisksNone, Ephemeral: true,
		Latency: devcloud.Fast(), Servers: []devcloud.Server{{Name: "node1"}},
	})
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
			return c, map[string]string{"auth-url": c.AuthURL(), "application-credential-id": a.CredentialID, "application-credential-secret": a.CredentialSecret}
		}
	}
	t.Fatal("there is no demo user")
	return nil, nil
}

// secretOf is a secret that leads to a new cloud.
func secretOf(t *testing.T) map[string]string {
	t.Helper()
	_, secret := startTenant(t)
	return secret
}

// world is clouds of secrets, and how many accounts there were.
type world struct {
	*clouds
	opened   atomic.Int32
	registry *prometheus.Registry
}

func newWorld(t *testing.T, idle time.Duration, most int) *world {
	t.Helper()
	all, err := openstack.ParseAddresses([]string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{registry: prometheus.NewPedanticRegistry()}
	w.clouds = newClouds(func(name string, cfg openstack.CloudConfig) (*openstack.Client, error) {
		w.opened.Add(1)
		return openstack.New(cfg, openstack.Options{SecretAddresses: all, Registerer: w.registry, Cloud: name})
	}, volumes.Options{Cluster: "c", Metrics: volumes.NewMetrics(w.registry)}, all, most, idle)
	t.Cleanup(w.close)
	return w
}

func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.secrets)
}

func (w *world) visit(t *testing.T, secret map[string]string) *volumes.Service {
	t.Helper()
	service, release, err := w.Use(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	release()
	return service
}

// until waits for something to come true.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func TestCallsWithTheSameCredentialsShareAConnection(t *testing.T) {
	w := newWorld(t, time.Hour, 10)
	one, two := secretOf(t), secretOf(t)
	services := make([]*volumes.Service, 20)
	var group sync.WaitGroup
	for i := range services {
		group.Go(func() {
			service, release, err := w.Use(t.Context(), []map[string]string{one, two}[i%2])
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
	if services[0] == services[1] || w.opened.Load() != 2 || w.count() != 2 {
		t.Errorf("%d accounts, %d kept", w.opened.Load(), w.count())
	}
}

func TestAnAccountGoesWhenItIsIdleAndNotBefore(t *testing.T) {
	w := newWorld(t, 30*time.Millisecond, 10)
	secret := secretOf(t)
	_, release, err := w.Use(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if w.count() != 1 {
		t.Fatal("it went during a call")
	}
	release()
	until(t, "it stays", func() bool { return w.count() == 0 })
	w.visit(t, secret)
	if w.opened.Load() != 2 {
		t.Errorf("%d accounts", w.opened.Load())
	}
}

func TestListingDoesNotKeepAnAccountAndDoesNotEndIt(t *testing.T) {
	w := newWorld(t, 30*time.Millisecond, 10)
	if list, done := w.All(t.Context()); len(list) != 0 {
		t.Errorf("%v before anybody came", list)
	} else {
		done()
	}
	secret := secretOf(t)
	_, release, err := w.Use(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	first, done := w.All(t.Context())
	if len(first) != 1 {
		t.Fatalf("%d clouds", len(first))
	}
	release()
	// The list takes longer than the account may be idle.
	time.Sleep(100 * time.Millisecond)
	if _, _, err := first[0].Service.List(t.Context(), cloud.Page{}); err != nil || w.count() != 1 {
		t.Errorf("%d accounts during the list: %v", w.count(), err)
	}
	done()
	until(t, "it stays", func() bool {
		// Who lists all the time does not keep it.
		_, done := w.All(t.Context())
		done()
		return w.count() == 0
	})
	_, release, err = w.Use(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	again, done := w.All(t.Context())
	done()
	if len(again) != 1 || again[0].Name == first[0].Name {
		t.Errorf("%+v, then %+v", first, again)
	}
}

func TestOneProjectIsListedOnce(t *testing.T) {
	w := newWorld(t, time.Hour, 10)
	secret := secretOf(t)
	other := maps.Clone(secret)
	other["os-endpoint-type"] = "public"
	for _, s := range []map[string]string{secret, other, secretOf(t)} {
		w.visit(t, s)
	}
	list, done := w.All(t.Context())
	done()
	if len(list) != 2 || list[0].Name != "secret:1" || list[1].Name != "secret:3" {
		t.Errorf("%+v", list)
	}
	// A section of cloud.conf goes first.
	cfg, _, _, err := openstack.SecretConfig(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.add("", cfg); err != nil {
		t.Fatal(err)
	}
	until(t, "the section is not connected to", func() bool { _, all := w.unready(); return !all })
	list, done = w.All(t.Context())
	done()
	if len(list) != 2 || list[0].Name != "" || list[1].Name != "secret:3" {
		t.Errorf("%+v", list)
	}
}

// labels returns the values of the label cloud, and how many series have it.
func (w *world) labels(t *testing.T) (names []string, series int) {
	t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "cloud" {
					names = append(names, label.GetValue())
					series++
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), series
}

func TestTheMetricsOfASecretGoWithItsAccount(t *testing.T) {
	w := newWorld(t, time.Hour, 10)
	cfg, _, _, err := openstack.SecretConfig(secretOf(t))
	if err != nil {
		t.Fatal(err)
	}
	// A section may have any name.
	for _, name := range []string{"", "default", "secret:1"} {
		if err := w.add(name, cfg); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the sections are not connected to", func() bool { names, _ := w.unready(); return len(names) == 0 })
	_, own := w.labels(t)
	wrong := secretOf(t)
	wrong["application-credential-secret"] = "wrong"
	if _, _, err := w.Use(t.Context(), wrong); !errors.Is(err, cloud.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	w.visit(t, secretOf(t))
	if names, _ := w.labels(t); !slices.Equal(names, []string{"default", "default+", "secret:1", "secret:1+", "secret:2"}) {
		t.Errorf("%q", names)
	}
	var up []string
	for _, h := range w.Health() {
		up = append(up, fmt.Sprint(h.Cloud, " ", h.Up))
	}
	if !slices.Equal(up, []string{"default true", "default+ true", "secret:1 true", "secret:2 true"}) {
		t.Errorf("%q", up)
	}
	w.mu.Lock()
	keys := slices.Collect(maps.Keys(w.secrets))
	w.mu.Unlock()
	for _, key := range keys {
		w.dropUnneeded(t.Context(), key)
	}
	if names, series := w.labels(t); !slices.Equal(names, []string{"default", "default+", "secret:1"}) || series != own {
		t.Errorf("%d of %d series are left: %q", series, own, names)
	}
}

func TestAFailureToConnectIsToldAndNotTriedByEveryCall(t *testing.T) {
	w := newWorld(t, time.Hour, 10)
	c, secret := startTenant(t)
	right := secret["application-credential-secret"]
	secret["application-credential-secret"] = "wrong"
	for range 20 {
		if _, _, err := w.Use(t.Context(), secret); !errors.Is(err, cloud.ErrUnauthorized) {
			t.Errorf("got %v", err)
		}
	}
	requests, err := c.Admin().Requests(t.Context())
	if err != nil || requests.Operations["token.create"] != 1 {
		t.Errorf("%v, %v", requests.Operations, err)
	}
	secret["application-credential-secret"] = right
	w.visit(t, secret)
	if _, _, err := w.Use(t.Context(), map[string]string{"clouds.yaml": "x"}); !errors.Is(err, cloud.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if _, _, err := w.Use(t.Context(), map[string]string{"cloud": "x"}); !errors.Is(err, cloud.ErrInvalid) || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("got %v", err)
	}
}

func TestACallThatGivesUpWhileConnecting(t *testing.T) {
	w := newWorld(t, time.Hour, 10)
	c, secret := startTenant(t)
	if err := c.Admin().SetFaults(t.Context(), admin.Fault{Operation: "token.create", Delay: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := w.Use(ctx, secret); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreRefusedUnlessTheirAddressIsAllowed(t *testing.T) {
	off := newClouds(nil, volumes.Options{}, openstack.Addresses{}, 10, time.Hour)
	t.Cleanup(off.close)
	for _, secret := range []map[string]string{
		{"auth-url": "https://keystone.example.com", "application-credential-id": "a", "application-credential-secret": "b"},
		{"clouds.yaml": "x"},
		{"cloud": "", "clouds.yaml": "x"},
	} {
		if _, _, err := off.Use(t.Context(), secret); !errors.Is(err, cloud.ErrForbidden) || !strings.Contains(err.Error(), "switched off: --secret-auth-urls") {
			t.Errorf("got %v", err)
		}
	}
	some, err := openstack.ParseAddresses([]string{"https://keystone.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	c := newClouds(nil, volumes.Options{}, some, 10, time.Hour)
	t.Cleanup(c.close)
	for _, address := range []string{"http://169.254.169.254/latest", "https://keystone.example.com.evil.org"} {
		secret := map[string]string{"auth-url": address, "application-credential-id": "a", "application-credential-secret": "b"}
		if _, _, err := c.Use(t.Context(), secret); !errors.Is(err, cloud.ErrForbidden) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestTheNumberOfAccountsOfSecretsIsBounded(t *testing.T) {
	w := newWorld(t, time.Hour, 3)
	attached, secret := startTenant(t)
	service := w.visit(t, secret)
	attach(t, controller.New(controller.Config{Source: w.clouds}), attached, secret, "a")
	idle := secretOf(t)
	w.visit(t, idle)
	// Whoever floods the driver with secrets pushes out their own and idle ones, and
	// never one whose volumes are attached.
	for i := range 20 {
		secret := map[string]string{"auth-url": "http://127.0.0.1:1/v3", "application-credential-id": fmt.Sprint(i), "application-credential-secret": "b"}
		if _, _, err := w.Use(t.Context(), secret); !errors.Is(err, cloud.ErrUnavailable) {
			t.Errorf("%v", err)
		}
		if w.count() > 3 {
			t.Errorf("%d accounts", w.count())
		}
	}
	if w.visit(t, secret) != service {
		t.Error("the account with attached volumes was dropped")
	}
	// A call that is under way keeps its account.
	var releases []func()
	defer func() {
		for _, release := range releases {
			release()
		}
	}()
	for range 2 {
		_, release, err := w.Use(t.Context(), secretOf(t))
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	if _, _, err := w.Use(t.Context(), secretOf(t)); !errors.Is(err, cloud.ErrUnavailable) || !strings.Contains(err.Error(), "--max-secret-clouds") {
		t.Errorf("%v", err)
	}
}

var mountable = &csi.VolumeCapability{
	AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
	AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
}

// attach makes a volume and publishes it on node1.
func attach(t *testing.T, server *controller.Server, c *devcloud.Cloud, secret map[string]string, name string) (id string) {
	t.Helper()
	v, err := server.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: []*csi.VolumeCapability{mountable}, Secrets: secret})
	if err != nil {
		t.Fatal(err)
	}
	id = v.GetVolume().GetVolumeId()
	if _, err := server.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{
		VolumeId: id, NodeId: c.ServerID("node1"), VolumeCapability: mountable, Secrets: secret,
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

// external-attacher publishes every volume again that should be attached and is not in
// the list.
func TestAttachedVolumesOfIdleAccountsStayInTheList(t *testing.T) {
	w := newWorld(t, 50*time.Millisecond, 10)
	c, secret := startTenant(t)
	server := controller.New(controller.Config{Source: w.clouds})
	id := attach(t, server, c, secret, "a")
	listed := func() bool {
		resp, err := server.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.GetEntries() {
			if e.GetVolume().GetVolumeId() == id {
				return len(e.GetStatus().GetPublishedNodeIds()) == 1
			}
		}
		return false
	}
	for range 5 {
		time.Sleep(100 * time.Millisecond)
		if !listed() {
			t.Fatal("the attached volume is not in the list")
		}
	}
	// A cloud in trouble makes the list an error, and does not lose its volumes.
	if err := c.Admin().SetFaults(t.Context(), admin.Fault{Operation: "volume.list", Before: http.StatusServiceUnavailable}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if resp, err := server.ListVolumes(t.Context(), &csi.ListVolumesRequest{}); err == nil {
		t.Errorf("a list of %d volumes while a cloud is in trouble", len(resp.GetEntries()))
	}
	if err := c.Admin().ClearFaults(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !listed() {
		t.Error("the attached volume is not in the list")
	}
	if _, err := server.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: c.ServerID("node1"), Secrets: secret}); err != nil {
		t.Fatal(err)
	}
	until(t, "the account stays although nothing is attached", func() bool { return w.count() == 0 })
}

// The Secret was rewritten while a request outlived its caller.
func TestTwoSecretsOfOneProjectExcludeEachOther(t *testing.T) {
	w := newWorld(t, time.Hour, 10)
	c, secret := startTenant(t)
	other := maps.Clone(secret)
	other["os-endpoint-type"] = "public"
	server := controller.New(controller.Config{Source: w.clouds})
	if err := c.Admin().SetFaults(t.Context(), admin.Fault{Operation: "volume.create", Delay: 1500 * time.Millisecond, Times: 1}); err != nil {
		t.Fatal(err)
	}
	create := func(secret map[string]string, patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := server.CreateVolume(ctx, &csi.CreateVolumeRequest{Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{mountable}, Secrets: secret})
		return err
	}
	var group sync.WaitGroup
	group.Go(func() { _ = create(secret, 300*time.Millisecond) })
	time.Sleep(600 * time.Millisecond)
	if err := create(other, 10*time.Second); err != nil {
		t.Log(err)
	}
	group.Wait()
	dump, err := c.Admin().Dump(t.Context())
	if err != nil || len(dump.Volumes) != 1 {
		t.Errorf("%d volumes of one name, %v", len(dump.Volumes), err)
	}
}

func TestAPanicInTheBackgroundEndsOneTurn(t *testing.T) {
	w := newWorld(t, time.Hour, 10)
	turns := make(chan int)
	turn := 0
	w.every(time.Millisecond, "testing", func() bool {
		turn++
		if turn == 1 {
			panic("x")
		}
		turns <- turn
		return true
	})
	if got := <-turns; got != 2 {
		t.Error(got)
	}
}
