package openstack

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// severalRegions is the form of file that a cluster over three regions has.
const severalRegions = `
[BlockStorage]
bs-version=v3
ignore-volume-az=True

[Global]
auth-url="https://auth.cloud.openstackcluster.region-default.local/v3"
username="region-default-username"
password="region-default-password"
region="default"
tenant-id="region-default-tenant-id"
tenant-name="region-default-tenant-name"
domain-name="Default"

[Global "region-one"]
auth-url="https://auth.cloud.openstackcluster.region-one.local/v3"
username="region-one-username"
password="region-one-password"
region="one"
tenant-id="region-one-tenant-id"
tenant-name="region-one-tenant-name"
domain-name="Default"
`

const everyKey = `
# a comment
[Global]
auth-url = https://keystone.example/v3
user-id = u1
username = "us er"
password = "p;a#s\"s\\"  ; the rest is a comment
tenant-id = t1
tenant-name = tn
trust-id = tr
trustee-id = te
trustee-password = tp
domain-id = d1
domain-name = dn
tenant-domain-id = td1
tenant-domain-name = tdn
user-domain-id = ud1
user-domain-name = udn
region = RegionOne
os-endpoint-type = internal
ca-file = /ca.pem
tls-insecure = true
token = tok
cert-file = /cert.pem
key-file = /key.pem
use-clouds = true
clouds-file = /clouds.yaml
cloud = main
application-credential-id = ai
application-credential-name = an
application-credential-secret = as
secret-name = of-another-program
[BlockStorage]
node-volume-attach-limit = 25
rescan-on-resize = yes
ignore-volume-az = 1
ignore-volume-microversion
trust-device-path = false
[Metadata]
search-order = metadataService , configDrive
request-timeout = 30s
[LoadBalancer]
use-octavia = true
[LoadBalancerClass "gold"]
subnet-id = x
[Networking]
public-network-name = ext
`

func TestReadConfig(t *testing.T) {
	tests := []struct {
		name  string
		files []string
		want  Config
	}{
		{"the default cloud and a named one", []string{severalRegions}, Config{
			Global: map[string]*CloudConfig{
				"": {AuthURL: "https://auth.cloud.openstackcluster.region-default.local/v3", Username: "region-default-username",
					Password: "region-default-password", Region: "default", TenantID: "region-default-tenant-id",
					TenantName: "region-default-tenant-name", DomainName: "Default"},
				"region-one": {AuthURL: "https://auth.cloud.openstackcluster.region-one.local/v3", Username: "region-one-username",
					Password: "region-one-password", Region: "one", TenantID: "region-one-tenant-id",
					TenantName: "region-one-tenant-name", DomainName: "Default"},
			},
			BlockStorage: BlockStorage{IgnoreVolumeAZ: true},
			Metadata:     Metadata{SearchOrder: "configDrive,metadataService"},
		}},
		{"every key, and keys and sections of other programs", []string{everyKey}, Config{
			Global: map[string]*CloudConfig{"": {
				AuthURL: "https://keystone.example/v3", UserID: "u1", Username: "us er", Password: `p;a#s"s\`,
				TenantID: "t1", TenantName: "tn", TrustID: "tr", TrusteeID: "te", TrusteePassword: "tp",
				DomainID: "d1", DomainName: "dn", TenantDomainID: "td1", TenantDomainName: "tdn",
				UserDomainID: "ud1", UserDomainName: "udn", Region: "RegionOne", EndpointType: "internal",
				CAFile: "/ca.pem", TLSInsecure: "true", Token: "tok", CertFile: "/cert.pem", KeyFile: "/key.pem",
				UseClouds: true, CloudsFile: "/clouds.yaml", Cloud: "main", ApplicationCredentialID: "ai",
				ApplicationCredentialName: "an", ApplicationCredentialSecret: "as",
			}},
			BlockStorage: BlockStorage{NodeVolumeAttachLimit: 25, IgnoreVolumeAZ: true, IgnoreVolumeMicroversion: true},
			Metadata:     Metadata{SearchOrder: "metadataService , configDrive", RequestTimeout: Duration(30 * time.Second)},
		}},
		{"a later file replaces keys of an earlier one and leaves the others", []string{
			"[Global]\nusername=a\npassword=b\n[BlockStorage]\nnode-volume-attach-limit=3\n",
			"[Global]\npassword=c\n[Global \"two\"]\nusername=d\n[BlockStorage]\nignore-volume-az=true\n",
		}, Config{
			Global:       map[string]*CloudConfig{"": {Username: "a", Password: "c"}, "two": {Username: "d"}},
			BlockStorage: BlockStorage{NodeVolumeAttachLimit: 3, IgnoreVolumeAZ: true},
			Metadata:     Metadata{SearchOrder: "configDrive,metadataService"},
		}},
		{"section and key in another case, a byte order mark and Windows lines", []string{
			"\ufeff[GLOBAL]\r\nUserName = a\r\nAUTH-URL=http://x\r\n",
		}, Config{
			Global:   map[string]*CloudConfig{"": {Username: "a", AuthURL: "http://x"}},
			Metadata: Metadata{SearchOrder: "configDrive,metadataService"},
		}},
		{"an empty file, as a node may have", []string{""}, Config{Metadata: Metadata{SearchOrder: "configDrive,metadataService"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ReadConfig(writeFiles(t, test.files...)...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(Config{}, CloudConfig{})); diff != "" {
				t.Errorf("unlike what was expected (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeysWithoutEffectAreTold(t *testing.T) {
	paths := writeFiles(t, `[Global]
user-name = a
secret-name = b
tls-insecure = True
[Global "two"]
pasword = c
cloud = x
[BlockStorage]
rescan-on-resize = true
bs-version = v3
ignore-volume-as = true
ignore-volume-as = false
[BlockStorage "x"]
ignore-volume-az = true
[Metadate]
search-order = x
[LoadBalancer]
use-octavia = true
floating-network-id =
[LoadBalancerClass "gold"]
subnet-id = x
`, everyKey)
	cfg, err := ReadConfig(paths...)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"[Global] user-name": "nearest to it is username", "[Global] secret-name": "reads credentials",
		`[Global "two"] pasword`: "nearest to it is password", "[BlockStorage] rescan-on-resize": "always reads",
		"[BlockStorage] bs-version": "version 3", "[BlockStorage] ignore-volume-as": "nearest to it is ignore-volume-az",
		"[BlockStorage] ": "for [Global] alone", "[Metadate] ": "nearest to it is [Metadata]",
		"[LoadBalancer] ": "other programs", "[LoadBalancerClass] ": "other programs",
	}
	for _, unused := range cfg.Unused() {
		if unused.File != paths[0] {
			continue
		}
		place := unused.Section + " " + unused.Key
		if !strings.Contains(unused.Reason, want[place]) || want[place] == "" {
			t.Errorf("%s: %s", place, unused.Reason)
		}
		delete(want, place)
	}
	if len(want) > 0 {
		t.Errorf("not told: %v", want)
	}
	// The value of the last file counts.
	if got := cfg.Global[""].TLSInsecure; got != "true" {
		t.Errorf("tls-insecure is %q", got)
	}
	if cfg, err = ReadConfig(paths[0]); err != nil || !slices.ContainsFunc(cfg.Unused(), func(u Unused) bool { return u.Key == "tls-insecure" }) {
		t.Errorf("tls-insecure: %v", err)
	}
	if !slices.ContainsFunc(cfg.Unused(), func(u Unused) bool {
		return u.Section == `[Global "two"]` && strings.Contains(u.Reason, "use-clouds")
	}) {
		t.Error("a cloud without use-clouds is not told")
	}
}

func TestReadConfigFailsWithOneLineThatNamesThePlace(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"a number that is none", "[BlockStorage]\nnode-volume-attach-limit = many\n", []string{"node-volume-attach-limit", "[BlockStorage]"}},
		{"a truth that is none", "[Global \"one\"]\nuse-clouds = perhaps\n", []string{"use-clouds", `[Global "one"]`}},
		{"a key without a value", "[Global]\npassword\n", []string{"password", "[Global]", "no value"}},
		{"a key before any section", "auth-url=x\n", []string{"line 1"}},
		{"an open quote", "[Global]\npassword = \"sesame\nusername = x\n", []string{"line 2"}},
		{"a stray backslash", "[Global]\nusername = x\npassword = ses\\ame\n", []string{"line 3"}},
		{"an open bracket", "[Global\nusername = x\n", []string{"line 1"}},
		{"a place to search that does not exist", "[Metadata]\nsearch-order = dream\n", []string{"search-order", "[Metadata]", "dream"}},
		{"a place to search named twice", "[Metadata]\nsearch-order = configDrive,configDrive\n", []string{"search-order"}},
		{"a time that is none", "[Metadata]\nrequest-timeout = soon\n", []string{"request-timeout", "[Metadata]"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			paths := writeFiles(t, test.text)
			_, err := ReadConfig(paths...)
			checkLine(t, err, append(test.want, paths[0])...)
			if strings.Contains(err.Error(), "ame") && strings.Contains(err.Error(), "ses") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestReadConfigTellsWhatIsWrongWithAFile(t *testing.T) {
	dir := t.TempDir()
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, make([]byte, maxConfigSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ReadConfig(filepath.Join(dir, "missing"))
	checkLine(t, err, filepath.Join(dir, "missing"), "no such file")
	_, err = ReadConfig(dir)
	checkLine(t, err, dir, "directory")
	_, err = ReadConfig(huge)
	checkLine(t, err, huge, "large")
	_, err = ReadConfig()
	checkLine(t, err, "no file")
}

func TestAnUnknownCloudIsNamedWithItsFile(t *testing.T) {
	paths := writeFiles(t, severalRegions)
	cfg, err := ReadConfig(paths...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = cfg.Cloud("mars")
	checkLine(t, err, paths[0], `[Global "mars"]`)
	one, err := cfg.Cloud("region-one")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{one.String(), one.GoString()} {
		if !strings.Contains(text, paths[0]+` [Global "region-one"]`) || strings.Contains(text, "region-one-password") {
			t.Errorf("text as %s", text)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, text := range []string{severalRegions, everyKey, "[Global]\na=\"\\", "[a \"\"]", "[Global]\npassword=\\\r\n", "[Global \"\\\"\"]\nx"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var cfg Config
		if err := cfg.parse("cloud.conf", text); err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		for _, cloud := range cfg.Global {
			if cloud.check() == nil {
				opts := cloud.authOptions()
				if _, err := opts.ToTokenV3CreateMap(nil); err != nil {
					t.Errorf("a configuration passes the check and can't be sent: %v", err)
				}
			}
		}
	})
}

// writeFiles writes each text to a file of its own and returns the paths.
func writeFiles(t *testing.T, texts ...string) []string {
	t.Helper()
	var paths []string
	for _, text := range texts {
		file, err := os.CreateTemp(t.TempDir(), "cloud.conf")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, file.Name())
	}
	return paths
}

// checkLine wants an error of one line that holds all of parts.
func checkLine(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("there is no error")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("several lines: %q", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not hold %q", err, part)
		}
	}
}
