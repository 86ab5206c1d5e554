package openstack

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
	cfg, err := CloudConfig{UseClouds: true, CloudsFile: path, Cloud: "main", Username: "conf-user", Region: "RegionOne"}.withClouds()
	if err != nil {
		t.Fatal(err)
	}
	conf, err := cfg.tlsConfig()
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
	cfg, err = CloudConfig{UseClouds: true, CloudsFile: path, Cloud: "main", TLSInsecure: "false"}.withClouds()
	if err != nil {
		t.Fatal(err)
	}
	if conf, err = cfg.tlsConfig(); err != nil || conf.InsecureSkipVerify {
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
	cfg, err := CloudConfig{UseClouds: true, CloudsFile: path, Cloud: "credential"}.withClouds()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.ApplicationCredentialSecret != "beside" || cfg.check() != nil {
		t.Error("secure.yaml is not read")
	}
}

func TestFormsOfCloudsFiles(t *testing.T) {
	base := "clouds:\n  c:\n    auth: {auth_url: 'http://k/v3', username: u, password: p, project_name: n, user_domain_name: U, project_domain_name: P}\n"
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	full := CloudConfig{AuthURL: "http://k/v3", Username: "u", Password: "p", TenantName: "n", UserDomainName: "U", TenantDomainName: "P"}
	with := func(change func(*CloudConfig)) CloudConfig {
		cfg := full
		change(&cfg)
		return cfg
	}
	auth := func(text string) string { return "clouds: {c: {auth: {auth_url: 'http://k/v3', " + text + "}}}" }
	for _, test := range []struct {
		name, text string
		// beside are files in the same folder, env variables, cfg is cloud.conf's part.
		beside, env map[string]string
		cfg         CloudConfig
		want        CloudConfig
		refused     []string
	}{
		{name: "plain", text: base, want: full},
		{name: "a number, a date and a quoted number as texts", text: auth(`username: u, password: 0123, project_name: 2020-01-01, domain_id: "007"`),
			want: CloudConfig{AuthURL: "http://k/v3", Username: "u", Password: "0123", TenantName: "2020-01-01", UserDomainID: "007", TenantDomainID: "007"}},
		{name: "unknown keys of any form", text: base + "    frobnicate: [1, {a: b}]\n    floating_ip_source: none\n    identity_api_version: 3\n    networks: [{name: x}]\n    volume_api_version: '2'\n", want: full},
		{name: "a region by name", text: base + "    region_name: R1\n", want: with(func(c *CloudConfig) { c.Region = "R1" })},
		{name: "OS_REGION_NAME goes before it", text: base + "    region_name: R1\n", env: map[string]string{"OS_REGION_NAME": "R2"}, want: with(func(c *CloudConfig) { c.Region = "R2" })},
		{name: "region of cloud.conf goes before that", text: base + "    region_name: R1\n", env: map[string]string{"OS_REGION_NAME": "R2"}, cfg: CloudConfig{Region: "R3"}, want: with(func(c *CloudConfig) { c.Region = "R3" })},
		{name: "the only one of regions", text: base + "    regions: [R1]\n", want: with(func(c *CloudConfig) { c.Region = "R1" })},
		{name: "several regions", text: base + "    regions: [R1, {name: R2}]\n", refused: []string{"R1, R2", "set region"}},
		{name: "one of several regions, with values", text: base + "    region_name: R2\n    regions:\n    - R1\n    - name: R2\n      values: {auth: {auth_url: 'http://k2/v3'}, verify: false}\n",
			want: with(func(c *CloudConfig) { c.Region, c.AuthURL, c.TLSInsecure = "R2", "http://k2/v3", "true" })},
		{name: "verify: false", text: base + "    verify: false\n", want: with(func(c *CloudConfig) { c.TLSInsecure = "true" })},
		{name: "verify as a text", text: base + "    verify: 'False'\n", want: with(func(c *CloudConfig) { c.TLSInsecure = "true" })},
		{name: "verify: true", text: base + "    verify: yes\n", want: full},
		{name: "insecure", text: base + "    insecure: true\n", want: with(func(c *CloudConfig) { c.TLSInsecure = "true" })},
		{name: "certificates", text: base + "    cacert: ~/ca.pem\n    cert: /c.pem\n    key: /k.pem\n",
			want: with(func(c *CloudConfig) {
				c.CAFile, c.CertFile, c.KeyFile = filepath.Join(home, "ca.pem"), "/c.pem", "/k.pem"
			})},
		{name: "certificates of the environment", text: base + "    cacert: /ca.pem\n", env: map[string]string{"OS_CACERT": "/e.pem"}, want: with(func(c *CloudConfig) { c.CAFile = "/e.pem" })},
		{name: "interface", text: base + "    interface: internal\n", want: with(func(c *CloudConfig) { c.EndpointType = "internal" })},
		{name: "endpoint_type", text: base + "    endpoint_type: adminURL\n", want: with(func(c *CloudConfig) { c.EndpointType = "adminURL" })},
		{name: "OS_INTERFACE", text: base + "    interface: admin\n", env: map[string]string{"OS_INTERFACE": "internal"}, want: with(func(c *CloudConfig) { c.EndpointType = "internal" })},
		{name: "an interface that is none", text: base + "    interface: secret\n", refused: []string{"os-endpoint-type", "public"}},
		{name: "keys outside of auth", text: "clouds: {c: {auth_url: 'http://k/v3', username: u, password: p, project_name: n, user_domain_name: U, project_domain_name: P}}", want: full},
		{name: "older names", text: auth("user_name: u, password: p, tenant_name: n, user_domain_name: U, project_domain_name: P"), want: full},
		{name: "one domain for both", text: auth("username: u, password: p, project_name: n, domain_name: D"), want: with(func(c *CloudConfig) { c.UserDomainName, c.TenantDomainName = "D", "D" })},
		{name: "default_domain", text: auth("username: u, password: p, project_name: n, default_domain: default"),
			want: with(func(c *CloudConfig) {
				c.UserDomainName, c.TenantDomainName, c.UserDomainID, c.TenantDomainID = "", "", "default", "default"
			})},
		{name: "a domain of its own beside the default", text: auth("username: u, password: p, project_name: n, user_domain_name: U, default_domain_name: D"),
			want: with(func(c *CloudConfig) { c.TenantDomainName = "D" })},
		{name: "a trust", text: auth("user_id: i, password: p, trust_id: t"), want: CloudConfig{AuthURL: "http://k/v3", UserID: "i", Password: "p", TrustID: "t"}},
		{name: "v3applicationcredential", text: "clouds: {c: {auth_type: v3applicationcredential, auth: {auth_url: 'http://k/v3', application_credential_id: i, application_credential_secret: s, token: old}}}",
			want: CloudConfig{AuthURL: "http://k/v3", ApplicationCredentialID: "i", ApplicationCredentialSecret: "s"}},
		{name: "v3password beside a token", text: strings.Replace(base, "auth: {", "auth_type: v3password\n    auth: {token: old, ", 1), want: full},
		{name: "password, in capitals", text: strings.Replace(base, "auth:", "auth_type: Password\n    auth:", 1), want: full},
		{name: "v3token", text: "clouds: {c: {auth_type: v3token, auth: {auth_url: 'http://k/v3', token: t, project_id: i}}}", want: CloudConfig{AuthURL: "http://k/v3", Token: "t", TenantID: "i"}},
		{name: "v3oidcpassword", text: strings.Replace(base, "auth:", "auth_type: v3oidcpassword\n    auth:", 1), refused: []string{`"v3oidcpassword" is not supported`, "v3applicationcredential"}},
		{name: "v3kerberos", text: "clouds: {c: {auth_type: v3kerberos, auth: {auth_url: 'http://k/v3'}}}", refused: []string{"v3kerberos"}},
		{name: "a profile", text: "clouds: {c: {profile: acme, auth: {username: u, password: p, project_name: n}}}",
			beside: map[string]string{"clouds-public.yaml": "public-clouds: {acme: {auth: {auth_url: 'http://k/v3', user_domain_name: U, project_domain_name: P, username: other}, region_name: R1}}"},
			want:   with(func(c *CloudConfig) { c.Region = "R1" })},
		{name: "a profile that is nowhere", text: "clouds: {c: {profile: acme, auth: {username: u, password: p}}}", refused: []string{`profile "acme"`, "clouds-public.yaml"}},
		{name: "a profile that is not needed", text: base + "    profile: acme\n", want: full},
		{name: "secure.yaml", text: strings.Replace(base, "password: p, ", "", 1), beside: map[string]string{"secure.yaml": "clouds: {c: {auth: {password: p}}, other: {auth: {password: q}}}"}, want: full},
		{name: "secure.yaml goes first", text: strings.Replace(base, "password: p", "password: old", 1), beside: map[string]string{"secure.yaml": "clouds: {c: {auth: {password: p}}}"}, want: full},
		{name: "a secure.yaml that is broken", text: base, beside: map[string]string{"secure.yaml": "clouds: ["}, refused: []string{"secure.yaml"}},
		{name: "merge keys and anchors", text: "x: &x {auth_url: 'http://k/v3', username: u, password: p, project_name: n}\nclouds: {c: {auth: {<<: *x, user_domain_name: U, project_domain_name: P}}}", want: full},
		{name: "a byte order mark and Windows lines", text: "\ufeff" + strings.ReplaceAll(base, "\n", "\r\n"), want: full},
		{name: "JSON", text: `{"clouds": {"c": {"auth": {"auth_url": "http://k/v3", "username": "u", "password": "p", "project_name": "n", "user_domain_name": "U", "project_domain_name": "P"}}}}`, want: full},
		{name: "a cloud that is null", text: "clouds: {c: null}", refused: []string{"auth-url is empty"}},
		{name: "other clouds that can't be read", text: base + "  odd: 5\n  list: [1]\n  text: {auth: keep-this-secret}\n  regions: {regions: {a: b}}\n", cfg: CloudConfig{Cloud: "c"}, want: with(func(c *CloudConfig) { c.Cloud = "c" })},
		{name: "another region that can't be read", text: base + "    region_name: R1\n    regions: [R1, {name: R2, values: {auth: keep-this-secret}}]\n", want: with(func(c *CloudConfig) { c.Region = "R1" })},
		{name: "the region that can't be read", text: base + "    region_name: R2\n    regions: [R1, {name: R2, values: {auth: keep-this-secret}}]\n", refused: []string{"R2", "line 5"}},
		{name: "a list in the place of the cloud", text: "clouds: {c: [keep-this-secret]}", refused: []string{"line 1"}},
		{name: "another cloud of secure.yaml that can't be read", text: strings.Replace(base, "password: p, ", "", 1), beside: map[string]string{"secure.yaml": "clouds: {c: {auth: {password: p}}, other: 5}"}, want: full},
		{name: "a text in the place of auth", text: "clouds: {c: {auth: keep-this-secret}}", refused: []string{"line 1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("OS_CLOUD", "")
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			path := writeClouds(t, test.text)
			for name, text := range test.beside {
				if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			test.cfg.UseClouds, test.cfg.CloudsFile, test.cfg.source = true, path, "/etc/cloud.conf [Global]"
			got, err := test.cfg.withClouds()
			if err == nil {
				err = got.check()
			}
			if test.refused != nil {
				checkLine(t, err, append(test.refused, "/etc/cloud.conf [Global]", path)...)
				if contains(err, "keep-") {
					t.Errorf("the error tells a value: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got.UseClouds, got.CloudsFile = false, ""
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(CloudConfig{})); diff != "" {
				t.Errorf("unlike what was expected (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhereCloudsFilesAreLookedFor(t *testing.T) {
	text := func(user string) string {
		return "clouds: {c: {auth: {auth_url: 'http://k/v3', username: " + user + ", password: p, domain_name: D}}}"
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		env   map[string]string
		cloud string
		want  string
	}{
		{name: "the working directory", files: map[string]string{"here/clouds.yaml": text("u"), "home/openstack/clouds.yaml": text("x")}, want: "u"},
		{name: "its other endings", files: map[string]string{"here/clouds.yml": text("u")}, want: "u"},
		{name: "the user's configuration", files: map[string]string{"home/openstack/clouds.yaml": text("u")}, want: "u"},
		{name: "OS_CLIENT_CONFIG_FILE", files: map[string]string{"here/clouds.yaml": text("x"), "there/my.yaml": text("u")}, env: map[string]string{"OS_CLIENT_CONFIG_FILE": "there/my.yaml"}, want: "u"},
		{name: "OS_CLIENT_SECURE_FILE", files: map[string]string{"here/clouds.yaml": text("x"), "there/my.yaml": text("u")}, env: map[string]string{"OS_CLIENT_SECURE_FILE": "there/my.yaml"}, want: "u"},
		{name: "a secure.yaml in another of the places", files: map[string]string{"here/clouds.yaml": text("x"), "home/openstack/secure.yaml": text("u")}, want: "u"},
		{name: "OS_CLIENT_VENDOR_FILE", files: map[string]string{"here/clouds.yaml": "clouds: {c: {profile: c, auth: {}}}", "there/p.yaml": strings.Replace(text("u"), "clouds", "public-clouds", 1)},
			env: map[string]string{"OS_CLIENT_VENDOR_FILE": "there/p.yaml"}, want: "u"},
		{name: "OS_CLOUD", files: map[string]string{"here/clouds.yaml": "clouds: {a: {}, c: {auth: {auth_url: 'http://k/v3', username: u, password: p, domain_name: D}}}"}, env: map[string]string{"OS_CLOUD": "c"}, want: "u"},
		{name: "variables alone", env: map[string]string{"OS_AUTH_URL": "http://k/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p", "OS_USER_DOMAIN_NAME": "D"}, want: "u"},
		{name: "the cloud of variables", files: map[string]string{"here/clouds.yaml": text("x")}, cloud: "envvars",
			env: map[string]string{"OS_AUTH_URL": "http://k/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p", "OS_USER_DOMAIN_NAME": "D"}, want: "u"},
		{name: "nothing", want: ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.MkdirAll(filepath.Join(dir, "here"), 0o700); err != nil {
				t.Fatal(err)
			}
			t.Chdir(filepath.Join(dir, "here"))
			t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "home"))
			for key, value := range test.env {
				if strings.HasSuffix(key, "_FILE") {
					value = filepath.Join(dir, value)
				}
				t.Setenv(key, value)
			}
			cfg, err := CloudConfig{UseClouds: true, Cloud: test.cloud}.withClouds()
			if test.want == "" {
				checkLine(t, err, "clouds-file is empty", "/etc/openstack")
				return
			}
			if err != nil || cfg.Username != test.want || cfg.check() != nil {
				t.Errorf("username %q, %v, %v", cfg.Username, err, cfg.check())
			}
		})
	}
}

func TestTheOnlyCloudNeedsNoName(t *testing.T) {
	t.Setenv("OS_CLOUD", "")
	path := writeClouds(t, "clouds:\n  lonely:\n    auth:\n      auth_url: http://k\n")
	t.Setenv("OS_CLIENT_CONFIG_FILE", path)
	cfg, err := CloudConfig{UseClouds: true}.withClouds()
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
