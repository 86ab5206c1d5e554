package driver_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

func volume(name string, secrets map[string]string) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name: name, Secrets: secrets,
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		}},
	}
}

// names returns the names of the volumes of a cloud.
func names(t *testing.T, cloud *devcloud.Cloud) string {
	t.Helper()
	volumes, err := cloud.Admin().Volumes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, v := range volumes {
		all = append(all, *v.Name)
	}
	return strings.Join(all, " ")
}

func TestCredentialsOfASecretLeadToTheirOwnCloud(t *testing.T) {
	home, conf := startCloud(t)
	other, _ := startCloud(t)
	s := start(t, driver.Config{Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""}, SecretAuthURLs: []string{other.AuthURL()}})
	accounts, err := other.Admin().Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	yaml := "clouds: {theirs: {region_name: RegionOne, auth: {auth_url: \"" + other.AuthURL() + "\", username: demo, password: " +
		accounts[0].Password + ", project_name: demo, user_domain_name: Default, project_domain_name: Default}}}"
	credential := map[string]string{
		"auth-url": other.AuthURL(), "application-credential-id": accounts[0].CredentialID, "application-credential-secret": accounts[0].CredentialSecret,
	}
	client := csi.NewControllerClient(s.conn)
	for name, secrets := range map[string]map[string]string{"a": nil, "b": {"clouds.yaml": yaml}, "c": credential} {
		created, err := client.CreateVolume(t.Context(), volume(name, secrets))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "c" {
			if _, err := client.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: created.GetVolume().GetVolumeId(), Secrets: secrets}); err != nil {
				t.Error(err)
			}
		}
	}
	if a, b := names(t, home), names(t, other); a != "a" || b != "b" {
		t.Errorf("the clouds have %q and %q", a, b)
	}
	_, err = client.CreateVolume(t.Context(), volume("d", map[string]string{"clouds.yaml": "x: " + accounts[0].Password}))
	if err == nil || strings.Contains(err.Error(), accounts[0].Password) {
		t.Errorf("got %v", err)
	}
}

// publish puts a file where Kubernetes would put that of a secret: the name is a
// link to a link to a directory, which alone is exchanged.
func publish(t *testing.T, dir, version, content string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, version, "cloud.conf"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(version, fresh); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

func TestChangedCredentialsAreTakenUpWithoutARestart(t *testing.T) {
	cloud, _ := startCloud(t)
	other, _ := startCloud(t)
	dir := t.TempDir()
	publish(t, dir, "v1", cloud.CloudConf())
	conf := filepath.Join(dir, "cloud.conf")
	if err := os.Symlink(filepath.Join("..data", "cloud.conf"), conf); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	web := freeAddress(t)
	s := startLogging(t, driver.Config{Controller: true, Cluster: "test", HTTPEndpoint: web, CloudConfig: []string{conf}, CloudNames: []string{""}, ReloadEvery: 20 * time.Millisecond}, zap.New(core))
	client := csi.NewControllerClient(s.conn)
	counted := func(result, count string) {
		t.Helper()
		if said := get(t, "http://"+web+"/metrics"); !strings.Contains(said, fmt.Sprintf("cinder_csi_credentials_reloads_total{cloud=\"default\",result=%q} %s\n", result, count)) {
			t.Errorf("%s is not %s:\n%s", result, count, said)
		}
	}
	all := ""
	for _, step := range []struct{ name, content, says string }{
		{"before", "", "connected to the cloud"},
		{"half-written", cloud.CloudConf()[:40], "stay in use"},
		{"wrong", strings.Replace(cloud.CloudConf(), "password=", "password=wrong", 1), "do not work"},
		{"changed", cloud.CredentialConf(), "changed credentials are in use"},
		// Every volume would pass for deleted in another project.
		{"another-cloud", other.CloudConf(), "at the next start"},
	} {
		told := 0
		if step.content != "" {
			told = logs.FilterMessageSnippet(step.says).Len()
			publish(t, dir, step.name, step.content)
		}
		for deadline := time.Now().Add(20 * time.Second); logs.FilterMessageSnippet(step.says).Len() == told; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the log does not say %q", step.name, step.says)
			}
		}
		if err := cloud.Admin().ExpireTokens(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := client.CreateVolume(t.Context(), volume(step.name, nil)); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		all += step.name + " "
		if step.name == "before" {
			counted("failure", "0")
			counted("success", "0")
		}
	}
	counted("success", "1")
	if said := get(t, "http://"+web+"/metrics"); strings.Contains(said, `result="failure"} 0`) {
		t.Error("no failure is counted")
	}
	if here, there := names(t, cloud), names(t, other); here+" " != all || there != "" {
		t.Errorf("the clouds have %q and %q", here, there)
	}
	time.Sleep(200 * time.Millisecond)
	if n := logs.FilterMessageSnippet("at the next start").Len(); n != 1 {
		t.Errorf("the other project is told %d times", n)
	}
}

// An account may be locked after a number of wrong passwords.
func TestWrongCredentialsAreTriedLessAndLessOften(t *testing.T) {
	cloud, conf := startCloud(t)
	start(t, driver.Config{Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""}, ReloadEvery: 5 * time.Millisecond})
	wrong := strings.Replace(cloud.CloudConf(), "password=", "password=wrong", 1)
	before := logins(t, cloud)
	if err := os.WriteFile(conf, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // 200 looks, between pauses of up to 100 ms
	if n := logins(t, cloud) - before; n < 2 || n > 40 {
		t.Errorf("%d attempts in a second", n)
	}
}

func logins(t *testing.T, cloud *devcloud.Cloud) int64 {
	t.Helper()
	requests, err := cloud.Admin().Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return requests.Operations["token.create"]
}

func TestVolumesOfCloudsThatOnlySecretsKnowAreListedWhileTheyAreInUse(t *testing.T) {
	_, conf := startCloud(t)
	other, _ := startCloud(t)
	s := start(t, driver.Config{Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""}, SecretAuthURLs: []string{other.AuthURL()}})
	accounts, err := other.Admin().Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{
		"auth-url": other.AuthURL(), "application-credential-id": accounts[0].CredentialID, "application-credential-secret": accounts[0].CredentialSecret,
	}
	client := csi.NewControllerClient(s.conn)
	listed := func() (ids []string) {
		t.Helper()
		req := &csi.ListVolumesRequest{MaxEntries: 1}
		for {
			resp, err := client.ListVolumes(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range resp.GetEntries() {
				ids = append(ids, e.GetVolume().GetVolumeId())
			}
			if req.StartingToken = resp.GetNextToken(); req.StartingToken == "" {
				return ids
			}
		}
	}
	var made []string
	for _, of := range []map[string]string{nil, secrets, secrets} {
		created, err := client.CreateVolume(t.Context(), volume(fmt.Sprint("pvc-", len(made)), of))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, created.GetVolume().GetVolumeId())
	}
	got := listed()
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(made)); !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	if _, err := client.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: made[1]}); err != nil {
		t.Error(err)
	}
	// A cloud in trouble is not left out: its volumes would pass for not attached.
	if err := other.Admin().SetFaults(t.Context(), admin.Fault{Operation: "volume.list", Before: 403}); err != nil {
		t.Fatal(err)
	}
	if resp, err := client.ListVolumes(t.Context(), &csi.ListVolumesRequest{}); err == nil {
		t.Errorf("listed %d volumes", len(resp.GetEntries()))
	}
}

func TestAChangeOfBlockStorageIsToldAndTakenUpAtTheNextStart(t *testing.T) {
	cloud, conf := startCloud(t)
	core, logs := observer.New(zap.WarnLevel)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- driver.Run(ctx, driver.Config{
			Endpoint: "unix://" + filepath.Join(t.TempDir(), "csi.sock"), Controller: true, DefaultFSType: "ext4",
			CloudConfig: []string{conf}, CloudNames: []string{""}, ReloadEvery: 10 * time.Millisecond,
		}, zap.New(core))
	}()
	time.Sleep(100 * time.Millisecond)
	if err := os.WriteFile(conf, []byte(cloud.CloudConf()+"\n[BlockStorage]\nignore-volume-az = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); logs.FilterMessageSnippet("[BlockStorage]").Len() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is told")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCloudsOfTheConfigurationAreChosenByTheSecret(t *testing.T) {
	home, conf := startCloud(t)
	east, _ := startCloud(t)
	west, _ := startCloud(t)
	text := home.CloudConf()
	for name, cloud := range map[string]*devcloud.Cloud{"east": east, "west": west} {
		text += strings.Replace(cloud.CloudConf(), "[Global]", fmt.Sprintf("[Global %q]", name), 1)
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, driver.Config{Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{"", "east", "west"}})
	client := csi.NewControllerClient(s.conn)
	ids := make(map[string]string)
	for name, cloud := range map[string]*devcloud.Cloud{"": home, "east": east, "west": west} {
		secrets := map[string]string{"cloud": name}
		if name == "" {
			secrets = nil
		}
		created, err := client.CreateVolume(t.Context(), volume("pvc-of-"+name, secrets))
		if err != nil {
			t.Fatal(err)
		}
		ids[created.GetVolume().GetVolumeId()] = name
		if got := names(t, cloud); got != "pvc-of-"+name {
			t.Errorf("cloud %q has %q", name, got)
		}
	}
	for id, name := range ids {
		// Neither call can name a cloud.
		if _, err := client.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: id}); err != nil {
			t.Errorf("of cloud %q: %v", name, err)
		}
	}
	req := &csi.ListVolumesRequest{MaxEntries: 1}
	for {
		resp, err := client.ListVolumes(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.GetEntries() {
			delete(ids, e.GetVolume().GetVolumeId())
		}
		if req.StartingToken = resp.GetNextToken(); req.StartingToken == "" {
			break
		}
	}
	if len(ids) != 0 {
		t.Errorf("not listed: %v", ids)
	}
	_, err := client.CreateVolume(t.Context(), volume("pvc", map[string]string{"cloud": "north"}))
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "east, west") {
		t.Errorf("got %v", err)
	}
}

func TestKeysWithoutEffectAreToldOnce(t *testing.T) {
	cloud, conf := startCloud(t)
	more := func(key string) {
		t.Helper()
		err := os.WriteFile(conf+".new", []byte(cloud.CloudConf()+"\n[BlockStorage]\nbs-version = v3\n"+key+" = x\n"), 0o600)
		if err == nil {
			err = os.Rename(conf+".new", conf)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	more("ignore-volume-as")
	core, logs := observer.New(zap.WarnLevel)
	startLogging(t, driver.Config{Controller: true, Node: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""}, ReloadEvery: 10 * time.Millisecond}, zap.New(core))
	told := func(key string) int { return logs.FilterField(zap.String("key", key)).Len() }
	if told("bs-version") != 1 || told("ignore-volume-as") != 1 {
		t.Errorf("told %d times and %d times", told("bs-version"), told("ignore-volume-as"))
	}
	entry := logs.FilterField(zap.String("key", "ignore-volume-as")).All()[0].ContextMap()
	if entry["file"] != conf || entry["section"] != "[BlockStorage]" || !strings.Contains(fmt.Sprint(entry["reason"]), "ignore-volume-az") {
		t.Errorf("told %v", entry)
	}
	more("ignore-volume-ac")
	for deadline := time.Now().Add(20 * time.Second); told("ignore-volume-ac") == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is told")
		}
	}
	if told("bs-version") != 2 || told("ignore-volume-as") != 1 {
		t.Errorf("told %d times and %d times", told("bs-version"), told("ignore-volume-as"))
	}
}

func TestTagsOfTheCommandLineAreRecorded(t *testing.T) {
	cloud, conf := startCloud(t)
	s := start(t, driver.Config{Controller: true, CloudConfig: []string{conf}, CloudNames: []string{""}, ExtraTags: map[string]string{"team": "storage", "stage": "test"}})
	req := volume("pvc-1", nil)
	req.Parameters = map[string]string{"appendVolumeMetadata": `{"stage": "production"}`}
	if _, err := csi.NewControllerClient(s.conn).CreateVolume(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	volumes, err := cloud.Admin().Volumes(t.Context())
	if err != nil || len(volumes) != 1 {
		t.Fatalf("%d volumes, %v", len(volumes), err)
	}
	if got := volumes[0].Metadata; got["team"] != "storage" || got["stage"] != "production" {
		t.Errorf("recorded %v", got)
	}
}
