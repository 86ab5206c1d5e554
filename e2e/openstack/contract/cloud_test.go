package contract

import (
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/api"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack/stacktest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// cloud is one of the two that are compared.
type cloud struct {
	name     string
	identity string
	accounts struct{ member, credential, other, admin api.Credentials }
	// Sessions of the accounts.
	member, credential, other, admin *api.Session
	// servers are ids by name.
	servers map[string]string
	image   string
	flavor  string
	// backend is what the types of ordinary volumes call their back end.
	backend string
	// versions of what answers.
	versions map[string]string
	// stop hangs a service, or "nova-compute of" a server in az2, and returns what
	// lets it go on.
	stop func(t *testing.T, service string) (release func())
	// limit sets how many disks a server may have, 0 for any number; nil where
	// that is fixed.
	limit func(t *testing.T, disks int)
	// pace sets how long the cloud stays in each state; nil where that can't be set,
	// so that a short state may be missed.
	pace func(t *testing.T, model devcloud.Latency)
}

// realCloud is the one that make openstack-up started; nil where none runs.
func realCloud(t *testing.T) *cloud {
	t.Helper()
	known := stacktest.Running(t)
	if known == nil {
		return nil
	}
	c := &cloud{name: "real", backend: "ceph", identity: known.Identity, servers: known.Servers, image: known.Image, flavor: known.Flavor, versions: known.Packages}
	c.accounts.member, c.accounts.credential, c.accounts.other, c.accounts.admin = known.Member, known.Credential, known.Other, known.Admin
	c.stop = func(t *testing.T, service string) func() {
		t.Helper()
		if strings.HasPrefix(service, "nova-compute") {
			service = "nova-compute-fake2"
		}
		run, err := stack.New(stack.Dir(), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		send := func(s syscall.Signal) {
			if err := run.Supervisor().Signal(context.Background(), service, s); err != nil {
				t.Fatal(err)
			}
		}
		send(syscall.SIGSTOP)
		return func() { send(syscall.SIGCONT) }
	}
	c.login(t)
	return c
}

// shown is how long the development cloud stays in each state that a row looks at:
// many times what it takes to ask for it.
const shown = 200 * time.Millisecond

// unhurried is the latency with which no state is too short to be seen. What
// follows another step in the same state, or in none of a volume, need not last.
func unhurried() devcloud.Latency {
	model := devcloud.Fast()
	short := model.DefaultStep
	model.DefaultStep = latency.Distribution{Min: shown, Median: shown}
	model.Steps = map[string]latency.Distribution{
		"volume.creating": short, "volume.cloning": short, "volume.restoring": short, "backup.restoring": short,
		"attachment.forgotten": short, "server.building": short, "server.deleting": short,
	}
	return model
}

// quickly does what no row looks at, which need not last.
func (p *probe) quickly(do func()) {
	p.Helper()
	if p.pace != nil {
		p.pace(p.T, devcloud.Fast())
		defer p.pace(p.T, unhurried())
	}
	do()
}

// development starts the development cloud with what the real one has.
func development(t *testing.T) *cloud {
	t.Helper()
	behaviour := devcloud.Behaviour{
		// Within DownAfter a row sends what Nova answers while it has missed nothing yet.
		RPCTimeout: state.Span(6 * time.Second), DownAfter: state.Span(5 * time.Second), ClonesHoldSnapshots: true, BackendZones: map[string][]string{"flash": {"nova"}}}
	dev, err := devcloud.Start(t.Context(), devcloud.Config{
		StateDir: t.TempDir(), Disks: devcloud.DisksNone, Latency: unhurried(), Behaviour: &behaviour,
		Servers: []devcloud.Server{{Name: "node1"}, {Name: "node2"}, {Name: "node3", Zone: "az2"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &cloud{name: "devcloud", backend: "file", identity: dev.AuthURL(), servers: map[string]string{}, image: "", flavor: "1"}
	for _, name := range []string{"node1", "node2", "node3"} {
		c.servers[name] = dev.ServerID(name)
	}
	accounts, err := dev.Admin().Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts {
		account := api.Credentials{User: a.User, Password: a.Password, Project: a.User}
		switch a.User {
		case "demo":
			c.accounts.member = account
			c.accounts.credential = api.Credentials{CredentialID: a.CredentialID, CredentialSecret: a.CredentialSecret}
		case "other":
			c.accounts.other = account
		case "admin":
			c.accounts.admin = account
		}
	}
	c.stop = func(t *testing.T, service string) func() {
		t.Helper()
		ctx, boss := context.WithoutCancel(t.Context()), dev.Admin()
		stop, release := map[string]func() error{
			"cinder-scheduler": func() error { return boss.SetFaults(ctx, admin.Fault{Operation: "volume.create", Lost: true}) },
			"cinder-volume":    func() error { return boss.SetFaults(ctx, admin.Fault{Operation: "volume.create", Stuck: true}) },
		}[service], boss.ClearFaults
		if server, ok := strings.CutPrefix(service, "nova-compute of "); ok {
			stop = func() error { return boss.HangCompute(ctx, server) }
			release = func(ctx context.Context) error { return boss.WakeCompute(ctx, server) }
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := release(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.limit = func(t *testing.T, disks int) {
		t.Helper()
		changed := behaviour
		changed.MaxDisks = disks
		if err := dev.Admin().SetBehaviour(context.WithoutCancel(t.Context()), changed); err != nil {
			t.Fatal(err)
		}
	}
	c.pace = func(t *testing.T, model devcloud.Latency) {
		t.Helper()
		if err := dev.Admin().SetLatency(context.WithoutCancel(t.Context()), model); err != nil {
			t.Fatal(err)
		}
	}
	c.login(t)
	c.types(t)
	return c
}

func (c *cloud) login(t *testing.T) {
	t.Helper()
	for _, l := range []struct {
		account api.Credentials
		session **api.Session
	}{
		{c.accounts.member, &c.member}, {c.accounts.credential, &c.credential},
		{c.accounts.other, &c.other}, {c.accounts.admin, &c.admin},
	} {
		session, err := api.Login(t.Context(), c.identity, l.account)
		if err != nil {
			t.Fatal(err)
		}
		*l.session = session
	}
}

// types gives the development cloud the volume types of the real one.
func (c *cloud) types(t *testing.T) {
	t.Helper()
	got, err := c.admin.Volume(t.Context(), "", http.MethodGet, "/types", nil)
	if err != nil {
		t.Fatal(err)
	}
	var listed struct {
		Types []struct{ ID, Name string } `json:"volume_types"`
	}
	if err := got.Into(&listed); err != nil {
		t.Fatal(err)
	}
	for _, kind := range listed.Types {
		if kind.Name != "__DEFAULT__" && kind.Name != "nobackend" {
			c.ask(t, http.MethodDelete, "/types/"+kind.ID, nil)
		}
	}
	for _, kind := range []struct {
		name  string
		specs map[string]string
	}{
		{"standard", map[string]string{"volume_backend_name": "file"}},
		{"multiattach", map[string]string{"volume_backend_name": "file", "multiattach": "<is> True"}},
		{"fast", map[string]string{"volume_backend_name": "file"}},
		{"nfs", map[string]string{"volume_backend_name": "flash"}},
	} {
		c.ask(t, http.MethodPost, "/types", map[string]any{"volume_type": map[string]any{"name": kind.name, "extra_specs": kind.specs}})
	}
}

// ask is a request of the administrator to Cinder that has to be granted.
func (c *cloud) ask(t *testing.T, method, path string, body any) {
	t.Helper()
	got, err := c.admin.Volume(context.WithoutCancel(t.Context()), "70", method, path, body)
	if err == nil {
		err = got.Into(nil)
	}
	if err != nil {
		t.Fatalf("%s: %s %s: %v", c.name, method, path, err)
	}
}

// quota sets quotas of the member's project; -1 is none.
func (c *cloud) quota(t *testing.T, lines map[string]int) {
	t.Helper()
	c.ask(t, http.MethodPut, "/os-quota-sets/"+c.member.ProjectID, map[string]any{"quota_set": lines})
}

// root is the address of a service up to its version.
func (c *cloud) root(service string) string {
	address := c.member.Services[service]
	for _, version := range []string{"/v3", "/v2.1"} {
		address, _, _ = strings.Cut(address, version)
	}
	return address
}

// disks lets servers have so many disks, their root disk counted; 0 for any
// number. The real cloud's node3 is on a host that is configured for five.
func (p *probe) disks(most int) {
	p.Helper()
	if p.limit != nil {
		p.limit(p.T, most)
	}
}
