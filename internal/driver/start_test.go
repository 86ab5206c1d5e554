package driver_test

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/driver"
)

// front is a way to a cloud that can be broken: nobody answers, or somebody hangs.
func front(t *testing.T, cloud *devcloud.Cloud) (address string, open *atomic.Bool) {
	t.Helper()
	target, err := url.Parse(cloud.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = zap.NewStdLog(zap.NewNop())
	open = new(atomic.Bool)
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if !open.Load() {
				panic(http.ErrAbortHandler)
			}
			proxy.ServeHTTP(w, req)
		}),
		ErrorLog: zap.NewStdLog(zap.NewNop()),
	}
	listener := listenLoopback(t)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String(), open
}

// twoClouds is a cloud.conf with a cloud that works and one at another address.
func twoClouds(t *testing.T, near *devcloud.Cloud, far, address string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloud.conf")
	there := strings.Replace(far, "[Global]", `[Global "far"]`, 1)
	i := strings.Index(there, "auth-url")
	end := i + strings.Index(there[i:], "\n")
	there = there[:i] + "auth-url = " + address + there[end:]
	if err := os.WriteFile(path, []byte(near.CloudConf()+there), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOneCloudThatIsDownStopsNothingOfTheOther(t *testing.T) {
	near, _ := startCloud(t)
	far, _ := startCloud(t)
	address, open := front(t, far)
	conf := twoClouds(t, near, far.CloudConf(), address+"/identity/v3")
	core, logs := observer.New(zap.InfoLevel)
	web := freeAddress(t)
	begun := time.Now()
	s := startLogging(t, driver.Config{Controller: true, Cluster: "test", HTTPEndpoint: web, CloudConfig: []string{conf}, CloudNames: []string{"", "far"}}, zap.New(core))
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("serving after %v", took)
	}
	client := csi.NewControllerClient(s.conn)
	ours, err := client.CreateVolume(t.Context(), volume("ours", nil))
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]string{"cloud": "far"}
	// The first call may wait for the first attempt, no other waits for any.
	for i := range 20 {
		begun := time.Now()
		_, err := client.CreateVolume(t.Context(), volume("theirs", theirs))
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "far") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begun); i > 0 && took > time.Second {
			t.Errorf("took %v", took)
		}
	}
	if _, err := client.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: ours.GetVolume().GetVolumeId()}); err != nil {
		t.Error(err)
	}
	if _, err := client.ListVolumes(t.Context(), &csi.ListVolumesRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a list without the volumes of a cloud: %v", err)
	}
	if _, err := csi.NewIdentityClient(s.conn).Probe(t.Context(), &csi.ProbeRequest{}); err != nil {
		t.Errorf("the kubelet would restart the plugin: %v", err)
	}
	if said := get(t, "http://"+web+"/readyz"); !strings.Contains(said, "ok\n") || !strings.Contains(said, `cloud "far" is not connected`) {
		t.Errorf("/readyz says %q", said)
	}
	if said := get(t, "http://"+web+"/metrics"); !strings.Contains(said, `cinder_csi_cloud_up{cloud="far"} 0`) || !strings.Contains(said, `cinder_csi_cloud_up{cloud="default"} 1`) {
		t.Errorf("/metrics says %q", said)
	}
	if logs.FilterMessageSnippet("not connected").FilterField(zap.String("cloud", "far")).Len() == 0 {
		t.Error("the log does not say which cloud is down")
	}
	open.Store(true)
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err := client.CreateVolume(t.Context(), volume("theirs", theirs)); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if said := get(t, "http://"+web+"/readyz"); said != "ok\n" {
		t.Errorf("/readyz says %q", said)
	}
}

// TestAListWaitsForTheFirstConnection: who asks for the volumes at once, as a side
// container does that was started with the driver, is answered.
func TestAListWaitsForTheFirstConnection(t *testing.T) {
	_, conf := startCloud(t)
	for range 5 {
		s := start(t, driver.Config{Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""}})
		client := csi.NewControllerClient(s.conn)
		if _, err := client.ListVolumes(t.Context(), &csi.ListVolumesRequest{}); err != nil {
			t.Error(err)
		}
		if _, err := client.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: "5f0c1b1e-4e8b-4f0e-9d4c-1d3c9a2f7e66"}); status.Code(err) != codes.NotFound {
			t.Error(err)
		}
	}
}

func TestTheOnlyCloudThatIsDownIsToldAndRestartsNothing(t *testing.T) {
	cloud, conf := startCloud(t)
	right, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(string(right), "password=", "password=wrong", 1)
	if err := os.WriteFile(conf, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	web := freeAddress(t)
	s := start(t, driver.Config{Controller: true, Cluster: "test", HTTPEndpoint: web, CloudConfig: []string{conf}, CloudNames: []string{""}, ReloadEvery: 20 * time.Millisecond})
	client := csi.NewControllerClient(s.conn)
	for range 20 {
		if _, err := client.CreateVolume(t.Context(), volume("pvc", nil)); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "credentials refused") {
			t.Errorf("got %v", err)
		}
	}
	time.Sleep(2 * time.Second)
	if n := logins(t, cloud); n != 1 {
		t.Errorf("the wrong password was sent %d times", n)
	}
	if _, err := csi.NewIdentityClient(s.conn).Probe(t.Context(), &csi.ProbeRequest{}); err != nil {
		t.Errorf("the kubelet would restart the plugin: %v", err)
	}
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "cloud \"\" is not connected; the log has the reason\n\n"} {
		if said := get(t, "http://"+web+path); said != want {
			t.Errorf("%s says %q", path, said)
		}
	}
	// Whoever mends the Secret need not restart anything.
	if err := os.WriteFile(conf, right, 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := client.CreateVolume(t.Context(), volume("pvc", nil)); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestWhatIsWrongWithTheWayToACloudIsInTheAnswer(t *testing.T) {
	cloud, _ := startCloud(t)
	silent := listenLoopback(t)
	t.Cleanup(func() { _ = silent.Close() })
	for name, test := range map[string]struct {
		authURL string
		says    string
	}{
		"nobody listens":    {"http://127.0.0.1:1/v3", "refused"},
		"nobody answers":    {"http://" + silent.Addr().String() + "/v3", "does not answer in time"},
		"it is no Keystone": {cloud.URL() + "/nowhere", "not a Keystone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := filepath.Join(t.TempDir(), "cloud.conf")
			if err := os.WriteFile(conf, []byte(strings.Replace(cloud.CloudConf(), cloud.AuthURL(), test.authURL, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			s := start(t, driver.Config{Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""}})
			begun := time.Now()
			_, err := csi.NewControllerClient(s.conn).CreateVolume(t.Context(), volume("pvc", nil))
			if status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), test.authURL) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begun); took > 8*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestAStopEndsCallsThatOnlyWait(t *testing.T) {
	cloud, conf := startCloud(t)
	if err := cloud.Admin().SetFaults(t.Context(), admin.Fault{Operation: "volume.create", Stuck: true}); err != nil {
		t.Fatal(err)
	}
	s := start(t, driver.Config{Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""}})
	answered := make(chan error, 1)
	go func() {
		_, err := csi.NewControllerClient(s.conn).CreateVolume(context.Background(), volume("pvc", nil))
		answered <- err
	}()
	time.Sleep(500 * time.Millisecond)
	begun := time.Now()
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the stop took %v though nothing was being written", took)
	}
	if code := status.Code(<-answered); code != codes.Unavailable && code != codes.Aborted {
		t.Errorf("the call ended with %v", code)
	}
}

func TestAStopSeesAWriteThrough(t *testing.T) {
	cloud, conf := startCloud(t)
	if err := cloud.Admin().SetFaults(t.Context(), admin.Fault{Operation: "volume.create", Delay: 2 * time.Second, Times: 1}); err != nil {
		t.Fatal(err)
	}
	s := start(t, driver.Config{Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""}})
	go func() { _, _ = csi.NewControllerClient(s.conn).CreateVolume(context.Background(), volume("pvc", nil)) }()
	time.Sleep(500 * time.Millisecond)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	requests, err := cloud.Admin().Requests(t.Context())
	if err != nil || requests.InFlight > 0 {
		t.Errorf("%d requests under way when the driver had stopped, %v", requests.InFlight, err)
	}
	if got := names(t, cloud); got != "pvc" {
		t.Errorf("the cloud has %q", got)
	}
}

// Manifests that name no cluster start, as with the reference driver, whose default that is.
func TestAControllerWithoutTheNameOfItsClusterSaysSo(t *testing.T) {
	_, conf := startCloud(t)
	for _, cluster := range []string{"", "kubernetes"} {
		core, logs := observer.New(zap.InfoLevel)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- driver.Run(ctx, driver.Config{
				Endpoint: "unix://" + filepath.Join(t.TempDir(), "csi.sock"), Controller: true, DefaultFSType: "ext4",
				Cluster: cluster, CloudConfig: []string{conf}, CloudNames: []string{""},
			}, zap.New(core))
		}()
		for deadline := time.Now().Add(20 * time.Second); logs.FilterMessage("serving").Len() == 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it does not serve")
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := logs.FilterMessageSnippet("--cluster is empty").Len(); (n == 1) != (cluster == "") {
			t.Errorf("--cluster=%s: %d warnings", cluster, n)
		}
	}
}

func TestACompleteListIsAnnouncedOnlyWhereThereIsOne(t *testing.T) {
	_, conf := startCloud(t)
	for _, allowed := range [][]string{nil, {"https://keystone.example.com"}} {
		s := start(t, driver.Config{Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""}, SecretAuthURLs: allowed})
		resp, err := csi.NewControllerClient(s.conn).ControllerGetCapabilities(t.Context(), &csi.ControllerGetCapabilitiesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		announced := false
		for _, c := range resp.GetCapabilities() {
			announced = announced || c.GetRpc().GetType() == csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES
		}
		if announced != (allowed == nil) {
			t.Errorf("secrets for %q: announced %v", allowed, announced)
		}
	}
}
