package driver_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/driver"
)

// spy collects what must stay secret, and everything that the driver tells.
type spy struct {
	mu      sync.Mutex
	secrets map[string]string
	told    bytes.Buffer
}

// keep notes a secret and what it is.
func (s *spy) keep(secret, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secret != "" {
		s.secrets[secret] = what
	}
}

// Write takes a line of the log.
func (s *spy) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told.Write(line)
}

// Sync does nothing.
func (s *spy) Sync() error { return nil }

// hear takes an error that a caller got to see.
func (s *spy) hear(err error) {
	if err != nil {
		_, _ = fmt.Fprintf(s, "error: %v\n", err)
	}
}

// between passes requests on to a cloud and looks at the tokens.
func (s *spy) between(t *testing.T, cloud *devcloud.Cloud) (address string) {
	t.Helper()
	target, err := url.Parse(cloud.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = zap.NewStdLog(zap.NewNop())
	proxy.ModifyResponse = func(resp *http.Response) error {
		s.keep(resp.Header.Get("X-Subject-Token"), "a new token")
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.keep(req.Header.Get("X-Auth-Token"), "a token")
		proxy.ServeHTTP(w, req)
	}))
	server.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	t.Cleanup(server.Close)
	return server.URL
}

// check fails the test for every line that holds a secret.
func (s *spy) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := 0
	for line := range strings.Lines(s.told.String()) {
		lines++
		for secret, what := range s.secrets {
			if strings.Contains(line, secret) {
				t.Errorf("%s is told: %.1000s", what, line)
			}
		}
	}
	for _, method := range csi.Controller_ServiceDesc.Methods {
		if !strings.Contains(s.told.String(), `"method":"`+method.MethodName+`"`) {
			t.Errorf("%s was not called", method.MethodName)
		}
	}
	if !strings.Contains(s.told.String(), "openstack request") || !strings.Contains(s.told.String(), `"request":`) {
		t.Error("the log is not at its most talkative")
	}
	t.Logf("%d lines, %d secrets", lines, len(s.secrets))
}

// listen starts a driver that tells everything to the spy.
func (s *spy) listen(t *testing.T, conf string) csi.ControllerClient {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloud.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.run(t, s.config(path, ""))
}

// run starts a driver, at a socket of its own, that tells everything to the spy.
func (s *spy) run(t *testing.T, cfg driver.Config) csi.ControllerClient {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "csi.sock")
	cfg.Endpoint = "unix://" + socket
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- driver.Run(ctx, cfg, s.logger()) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if _, err := csi.NewIdentityClient(conn).Probe(t.Context(), &csi.ProbeRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	return csi.NewControllerClient(conn)
}

func (s *spy) config(conf, socket string) driver.Config {
	return driver.Config{
		SecretAuthURLs: []string{"*"},
		Endpoint:       "unix://" + socket, Controller: true, Topology: true, Version: "v1", DefaultFSType: "ext4",
		CloudConfig: []string{conf}, CloudNames: []string{""}, Cluster: "secrets",
	}
}

func (s *spy) logger() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), s, zap.DebugLevel))
}

// things are what the calls are about.
type things struct{ name, volume, snapshot, node string }

// call makes every call of the controller at the same time, with secrets.
func call(t *testing.T, c csi.ControllerClient, about things, secrets map[string]string, heard func(error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
	defer cancel()
	able := &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
	ables, larger := []*csi.VolumeCapability{able}, &csi.CapacityRange{RequiredBytes: 2 << 30}
	calls := []func() error{
		func() error {
			_, err := c.CreateVolume(ctx, &csi.CreateVolumeRequest{Name: about.name, VolumeCapabilities: ables, Secrets: secrets})
			return err
		},
		func() error {
			_, err := c.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: about.volume, Secrets: secrets})
			return err
		},
		func() error {
			_, err := c.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: about.volume, NodeId: about.node, VolumeCapability: able, Secrets: secrets})
			return err
		},
		func() error {
			_, err := c.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: about.volume, NodeId: about.node, Secrets: secrets})
			return err
		},
		func() error {
			_, err := c.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{VolumeId: about.volume, VolumeCapabilities: ables, Secrets: secrets})
			return err
		},
		func() error { _, err := c.ListVolumes(ctx, &csi.ListVolumesRequest{}); return err },
		func() error { _, err := c.GetCapacity(ctx, &csi.GetCapacityRequest{}); return err },
		func() error {
			_, err := c.ControllerGetCapabilities(ctx, &csi.ControllerGetCapabilitiesRequest{})
			return err
		},
		func() error {
			_, err := c.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: about.name, SourceVolumeId: about.volume, Secrets: secrets})
			return err
		},
		func() error {
			_, err := c.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: about.snapshot, Secrets: secrets})
			return err
		},
		func() error {
			_, err := c.ListSnapshots(ctx, &csi.ListSnapshotsRequest{SourceVolumeId: about.volume, Secrets: secrets})
			return err
		},
		func() error {
			_, err := c.GetSnapshot(ctx, &csi.GetSnapshotRequest{SnapshotId: about.snapshot, Secrets: secrets})
			return err
		},
		func() error {
			_, err := c.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: about.volume, CapacityRange: larger, Secrets: secrets})
			return err
		},
		func() error {
			_, err := c.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{VolumeId: about.volume})
			return err
		},
		func() error {
			_, err := c.ControllerGetVolumeHealth(ctx, &csi.ControllerGetVolumeHealthRequest{VolumeId: about.volume})
			return err
		},
		func() error {
			_, err := c.ControllerListVolumeHealth(ctx, &csi.ControllerListVolumeHealthRequest{})
			return err
		},
		func() error {
			_, err := c.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: about.volume, Secrets: secrets, MutableParameters: map[string]string{"type": "none"}})
			return err
		},
	}
	var group sync.WaitGroup
	for _, one := range calls {
		group.Go(func() { heard(one()) })
	}
	group.Wait()
}

// mishaps are how the cloud answers every request, that for a token included.
var mishaps = map[string]admin.Fault{
	"nothing is wrong":                   {Operation: "none"},
	"credentials and tokens are refused": {Before: http.StatusUnauthorized},
	"everything is forbidden":            {Before: http.StatusForbidden},
	"everything is refused":              {Before: http.StatusBadRequest},
	"nothing is found":                   {Before: http.StatusNotFound},
	"the cloud fails":                    {Before: http.StatusInternalServerError},
	"the cloud fails after it acted":     {After: http.StatusBadGateway},
	"connections break":                  {DropBefore: true},
	"answers break off":                  {Truncate: true},
	"answers are late":                   {Delay: time.Second},
}

func TestNoSecretIsTold(t *testing.T) {
	const canary = "canary-5f1e"
	for name, login := range map[string]func(cloud *devcloud.Cloud, account admin.Account) (conf string, secrets map[string]string){
		"of a password": func(cloud *devcloud.Cloud, _ admin.Account) (string, map[string]string) {
			return cloud.CloudConf(), nil
		},
		"of an application credential": func(cloud *devcloud.Cloud, _ admin.Account) (string, map[string]string) {
			return cloud.CredentialConf(), nil
		},
		"of the secret of a call": func(cloud *devcloud.Cloud, account admin.Account) (string, map[string]string) {
			return cloud.CloudConf(), map[string]string{
				"auth-url": cloud.AuthURL(), "application-credential-id": account.CredentialID, "application-credential-secret": account.CredentialSecret,
			}
		},
		"of the wrong secret of a call": func(cloud *devcloud.Cloud, account admin.Account) (string, map[string]string) {
			return cloud.CloudConf(), map[string]string{
				"auth-url": cloud.AuthURL(), "application-credential-id": account.CredentialID, "application-credential-secret": canary + "-wrong",
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, _ := startCloud(t)
			accounts, err := cloud.Admin().Accounts(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s := &spy{secrets: map[string]string{}}
			s.keep(canary, "a value of a secret")
			for _, a := range accounts {
				s.keep(a.Password, "the password of "+a.User)
				s.keep(a.CredentialSecret, "the application credential of "+a.User)
			}
			address := s.between(t, cloud)
			conf, secrets := login(cloud, accounts[0])
			secrets = maps.Clone(secrets)
			if secrets == nil {
				secrets = map[string]string{}
			}
			if u, ok := secrets["auth-url"]; ok {
				secrets["auth-url"] = strings.Replace(u, cloud.URL(), address, 1)
			}
			secrets["password"], secrets["something"] = canary+"-password", canary+"-something"
			s.visit(t, cloud, s.listen(t, strings.Replace(conf, cloud.URL(), address, 1)), secrets)
			s.check(t)
		})
	}
}

// visit makes every call under every mishap.
func (s *spy) visit(t *testing.T, cloud *devcloud.Cloud, c csi.ControllerClient, secrets map[string]string) {
	t.Helper()
	about := things{name: "pvc", node: cloud.ServerID("node1"), volume: "00000000-0000-4000-8000-000000000000", snapshot: "00000000-0000-4000-8000-000000000000"}
	control := cloud.Admin()
	// After credentials were refused, nothing works for a while.
	order := slices.Sorted(maps.Keys(mishaps))
	last := slices.Index(order, "credentials and tokens are refused")
	for _, what := range append(slices.Delete(slices.Clone(order), last, last+1), order[last]) {
		fault := mishaps[what]
		about.name += "."
		if err := control.ClearFaults(t.Context()); err != nil {
			t.Fatal(err)
		}
		if made, err := c.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: about.name + "volume", VolumeCapabilities: []*csi.VolumeCapability{{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		}}}); err != nil {
			t.Fatalf("before %q: %v", what, err)
		} else {
			about.volume = made.GetVolume().GetVolumeId()
		}
		if err := control.ExpireTokens(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := control.SetFaults(t.Context(), fault); err != nil {
			t.Fatal(err)
		}
		call(t, c, about, secrets, s.hear)
	}
}

func TestAPasswordThatIsRefusedAtTheStartIsNotTold(t *testing.T) {
	const canary = "canary-77aa"
	cloud, conf := startCloud(t)
	accounts, err := cloud.Admin().Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	s := &spy{}
	for _, broken := range []string{
		strings.Replace(string(text), accounts[0].Password, canary, 1),
		strings.Replace(string(text), "password=", "password=\""+canary+"\npassword=", 1),
		strings.Replace(string(text), "auth-url=http://", "auth-url=http://user:"+canary+"@", 1),
		strings.Replace(string(text), "auth-url=http", "auth-url=canary://user:"+canary+"@http", 1),
	} {
		if broken == string(text) {
			t.Fatal("nothing is wrong with the configuration")
		}
		if err := os.WriteFile(conf, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		err := driver.Run(ctx, s.config(conf, filepath.Join(t.TempDir(), "csi.sock")), s.logger())
		cancel()
		s.hear(err)
	}
	if strings.Contains(s.told.String(), canary) {
		t.Errorf("the password is told: %s", s.told.String())
	}
}
