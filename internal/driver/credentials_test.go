package driver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
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
	s := start(t, driver.Config{Controller: true, CloudConfig: []string{conf}, CloudNames: []string{""}})
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
	first, _ := startCloud(t)
	second, _ := startCloud(t)
	dir := t.TempDir()
	publish(t, dir, "v1", first.CloudConf())
	conf := filepath.Join(dir, "cloud.conf")
	if err := os.Symlink(filepath.Join("..data", "cloud.conf"), conf); err != nil {
		t.Fatal(err)
	}
	s := start(t, driver.Config{Controller: true, CloudConfig: []string{conf}, CloudNames: []string{""}, ReloadEvery: 20 * time.Millisecond})
	client := csi.NewControllerClient(s.conn)
	create := func(name string) {
		t.Helper()
		if _, err := client.CreateVolume(t.Context(), volume(name, nil)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	create("before")
	publish(t, dir, "v2", second.CloudConf()[:40])
	time.Sleep(100 * time.Millisecond)
	create("half-written")
	publish(t, dir, "v3", strings.Replace(second.CloudConf(), "password=", "password=wrong", 1))
	time.Sleep(100 * time.Millisecond)
	create("wrong")
	publish(t, dir, "v4", second.CloudConf())
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		// A call that begins in one cloud and ends in the other is told to ask again.
		if _, err := client.CreateVolume(t.Context(), volume("after", nil)); err != nil && status.Code(err) != codes.Aborted {
			t.Fatal(err)
		}
		if names(t, second) != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the change is not taken up")
		}
	}
	if got := strings.Fields(names(t, first)); len(got) < 3 || got[0] != "before" || got[1] != "half-written" || got[2] != "wrong" {
		t.Errorf("the first cloud has %q", got)
	}
}
