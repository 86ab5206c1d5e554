package openstack

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const cloudsYAML = `clouds:
  main:
    auth:
      auth_url: http://keystone.example/v3
      username: yaml-user
      password: yaml-secret
      project_name: yaml-project
      user_domain_name: Users
      project_domain_name: Projects
    region_name: RegionTwo
    interface: internal
    verify: false
  credential:
    auth_type: v3applicationcredential
    auth:
      auth_url: http://keystone.example/v3
      application_credential_id: cid
      application_credential_secret: csecret
  hollow:
    region_name: RegionOne
`

func TestCloudsFileFillsWhatIsEmpty(t *testing.T) {
	path := writeClouds(t, cloudsYAML)
	cfg, conf, err := CloudConfig{UseClouds: true, CloudsFile: path, Cloud: "main", Username: "conf-user", Region: "RegionOne"}.withClouds()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.AuthURL != "http://keystone.example/v3" || cfg.Username != "conf-user" || cfg.Password != "yaml-secret" ||
		cfg.Region != "RegionOne" || cfg.EndpointType != "internal" || cfg.TenantName != "yaml-project" ||
		cfg.UserDomainName != "Users" || cfg.TenantDomainName != "Projects" {
		t.Errorf("filled as %#v", struct{ CloudConfig }{cfg})
	}
	if !conf.InsecureSkipVerify || conf.MinVersion != tls.VersionTLS12 {
		t.Error("verify: false is not honoured")
	}
	if err := cfg.check(); err != nil {
		t.Error(err)
	}
	_, conf, err = CloudConfig{UseClouds: true, CloudsFile: path, Cloud: "main", TLSInsecure: "false"}.withClouds()
	if err != nil || conf.InsecureSkipVerify {
		t.Errorf("tls-insecure of cloud.conf does not win: %v", err)
	}
}

func TestCloudsFileMayHoldASecretBesideIt(t *testing.T) {
	path := writeClouds(t, strings.Replace(cloudsYAML, "      application_credential_secret: csecret\n", "", 1))
	secure := filepath.Join(filepath.Dir(path), "secure.yaml")
	text := "clouds:\n  credential:\n    auth:\n      application_credential_secret: beside\n"
	if err := os.WriteFile(secure, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := CloudConfig{UseClouds: true, CloudsFile: path, Cloud: "credential"}.withClouds()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.ApplicationCredentialSecret != "beside" || cfg.check() != nil {
		t.Error("secure.yaml is not read")
	}
}

func TestTheOnlyCloudNeedsNoName(t *testing.T) {
	t.Setenv("OS_CLOUD", "")
	path := writeClouds(t, "clouds:\n  lonely:\n    auth:\n      auth_url: http://k\n")
	t.Setenv("OS_CLIENT_CONFIG_FILE", path)
	cfg, _, err := CloudConfig{UseClouds: true}.withClouds()
	if err != nil || cfg.AuthURL != "http://k" {
		t.Errorf("read as %v, %v", cfg, err)
	}
}

func TestCloudsFileErrorsNameFileAndCloud(t *testing.T) {
	t.Setenv("OS_CLOUD", "")
	path := writeClouds(t, cloudsYAML)
	tests := []struct {
		name string
		cfg  CloudConfig
		want []string
	}{
		{"a file that is missing", CloudConfig{CloudsFile: "/nowhere/clouds.yaml"}, []string{"/nowhere/clouds.yaml", "no such file"}},
		{"a cloud that is missing", CloudConfig{CloudsFile: path, Cloud: "mars"}, []string{path, "mars", "main"}},
		{"no choice among several", CloudConfig{CloudsFile: path}, []string{path, "cloud is empty"}},
		{"a cloud without auth", CloudConfig{CloudsFile: path, Cloud: "hollow"}, []string{path, "hollow", "auth"}},
		{"a file that is not YAML", CloudConfig{CloudsFile: writeClouds(t, "clouds: [\n"), Cloud: "x"}, []string{"yaml", "line"}},
		{"a ca-file that is missing", CloudConfig{CloudsFile: path, Cloud: "main", CAFile: "/nowhere/ca.pem"}, []string{"/nowhere/ca.pem"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.source, test.cfg.UseClouds = "/etc/cloud.conf [Global]", true
			_, err := Connect(t.Context(), test.cfg, Options{})
			checkLine(t, err, append(test.want, "/etc/cloud.conf [Global]")...)
			if contains(err, "secret") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func writeClouds(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func contains(err error, part string) bool {
	return err != nil && strings.Contains(err.Error(), part)
}
