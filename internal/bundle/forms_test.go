package bundle_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/bundle"
)

const podLog = "/api/v1/namespaces/kube-system/pods/cinder-csi-controller-1/log"

// logged returns the bundle of a plugin that has logged a text.
func logged(t *testing.T, text string, opts bundle.Options) (log string, files map[string]string) {
	t.Helper()
	opts.Cluster = connect(t, apiserver{
		"/api/v1/namespaces/kube-system/pods": list("Pod", fmt.Sprintf(pod, "", "", "", "", "")),
		podLog:                                text,
	})
	_, files = write(t, opts)
	return files["logs/cinder-csi-controller-1/cinder-csi-plugin.log"], files
}

// TestSecretsThatNobodyKnowsAreSeenByWhereTheyStand: in each line, what has KANARI in it is
// secret to its last character, END.
func TestSecretsThatNobodyKnowsAreSeenByWhereTheyStand(t *testing.T) {
	for _, line := range []string{
		`auth: {"password": "KANARI with # and ; END", "user": "kept"}`,
		`auth: {"password":"KANARI\"quoted\"END","user":"kept"}`,
		`auth: {"password":"KANARI\\END","user":"kept"}`,
		`{"msg":"body: {\"password\": \"KANARI two; words END\", \"user\": \"kept\"}"}`,
		`{"msg":"body: {\"password\": \"KANARI \\\"quoted\\\" END\", \"user\": \"kept\"}"}`,
		`password = "KANARI with # and ; END" ; kept`,
		`password=KANARI;{END} kept`,
		`password: KANARI,END kept`,
		`{"msg":"password=KANARI\\END kept"}`,
		`Keystone: {'password': 'KANARI it''s END', 'user': 'kept'}`,
		`Keystone: {u'password': u'KANARI END', u'user': u'kept'}`,
		`headers map[X-Auth-Token:[KANARIEND] Accept:[kept]]`,
		`headers map[X-Auth-Token:[KANARI[END] Accept:[kept]]`,
		`{"headers": {"X-Subject-Token": ["KANARI END"], "kept": 1}}`,
		`adminPass=KANARIEND kept`,
		`auth-url http://user:KANARI@END@keystone:5000/v3 kept`,
		`proxy http://KANARIEND@proxy:3128 kept`,
		`ran openstack --os-password KANARIEND --kept`,
		`client-key-data: ` + base64.StdEncoding.EncodeToString([]byte("-----BEGIN EC PRIVATE KEY-----\nKANARIEND\n")) + ` kept`,
		`x ` + base64.StdEncoding.EncodeToString([]byte("-----BEGIN EC PRIVATE KEY-----\nKANARIEND, and a little more\n")) + ` kept`,
	} {
		log, _ := logged(t, line+"\n", bundle.Options{})
		if strings.Contains(log, "KANARI") || strings.Contains(log, "END") || strings.Contains(log, "LS0t") || !strings.Contains(log, "kept") {
			t.Errorf("%s\nis shown as\n%s", line, log)
		}
	}
	for _, line := range []string{
		`{"level":"info","msg":"registered","tokenExpiry":"2026-12-01","secretName":"luks","nodeStageSecretRef":{"name":"luks"}}`,
		`image docker-pullable://registry:5000/cinder-csi/cinder-csi-node@sha256:0123`,
		`{"secret":null,"volumeID":"5f0c1b1e-4e8b-4f0e-9d4c-1d3c9a2f7e66"}`,
	} {
		if log, _ := logged(t, line, bundle.Options{}); !strings.Contains(strings.ReplaceAll(log, bundle.Redacted, "null"), line) {
			t.Errorf("%s\nis shown as\n%s", line, log)
		}
	}
}

// TestSecretsOfTheConfigurationAreSeenInAllForms: as they are, and escaped by whatever writes them.
func TestSecretsOfTheConfigurationAreSeenInAllForms(t *testing.T) {
	const secret, userinfo, comment, old = `Kän&a"ri<7>'@/\x`, "hun/ter@2two", "formerly", "alter-schlüssel"
	dir := t.TempDir()
	clouds, conf := filepath.Join(dir, "clouds.yaml"), filepath.Join(dir, "cloud.conf")
	for path, text := range map[string]string{
		clouds: "# password: '" + old + "'\nclouds:\n  mine:\n    auth: {auth_url: 'http://127.0.0.1:1/v3', username: demo}\n",
		conf: "[Global]\nauth-url=http://demo:" + userinfo + "@127.0.0.1:1/v3\nusername=demo\ndomain-name=d\n# region=RegionOne\n#password=" + comment + "\npassword=" + strconv.Quote(secret) +
			"\n[Global \"mine\"]\nuse-clouds=true\nclouds-file=" + clouds + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HTTPS_PROXY", "http://someone:pr%23xy-word@127.0.0.1:1")
	once, _ := json.Marshal(secret)
	twice, _ := json.Marshal(string(once))
	user := url.UserPassword("demo", secret).String()
	lines := []string{
		secret, string(once), string(twice), strconv.QuoteToASCII(secret), url.QueryEscape(secret), url.PathEscape(secret), user, html.EscapeString(secret),
		strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(string(once)), userinfo, comment, old, "pr%23xy-word", "pr#xy-word",
	}
	for _, before := range []string{"", "d", "demo:", "cloud.conf of somebody: "} {
		lines = append(lines, base64.StdEncoding.EncodeToString([]byte(before+secret+" and more")), base64.URLEncoding.EncodeToString([]byte(before+secret)))
	}
	for _, line := range lines {
		log, files := logged(t, "seen "+line+" here in RegionOne", bundle.Options{CloudConfig: []string{conf}})
		if strings.Contains(log, line) || !strings.Contains(log, bundle.Redacted) || !strings.Contains(log, "here in RegionOne") {
			t.Errorf("%s\nis shown as\n%s", line, log)
		}
		for name, content := range files {
			if strings.Contains(content, userinfo) || strings.Contains(content, secret) {
				t.Errorf("%s:\n%s", name, content)
			}
		}
	}
}

// TestTheEndOfALongLogIsInTheBundle: what happened last is what somebody wants to see. A
// line that is cut off may begin within a secret.
func TestTheEndOfALongLogIsInTheBundle(t *testing.T) {
	const most = 4 << 20
	after := strings.Repeat("a line of a log\n", most/16-1)
	log, _ := logged(t, "the beginning\npassword="+strings.Repeat("x", 1000)+"\n"+after[500:]+"what happened last\n", bundle.Options{})
	if !strings.HasSuffix(log, "what happened last\n") {
		t.Errorf("the log of %d bytes ends in %q", len(log), log[max(0, len(log)-100):])
	}
	if strings.Contains(log, "xxx") || strings.Contains(log, "the beginning") {
		t.Errorf("the log begins with %q", log[:min(len(log), 100)])
	}
}

// TestNoSecretOfAContainerForDebuggingIsInTheBundle.
func TestNoSecretOfAContainerForDebuggingIsInTheBundle(t *testing.T) {
	debugged := strings.Replace(fmt.Sprintf(pod, "", "", "", "", ""), `"containers"`,
		`"ephemeralContainers": [{"name": "debug", "image": "x", "env": [{"name": "OS_PASSWORD", "value": "kanari-debug"}]}], "containers"`, 1)
	_, files := write(t, bundle.Options{Cluster: connect(t, apiserver{
		"/api/v1/namespaces/kube-system/pods": list("Pod", debugged), podLog: "password is kanari-debug",
	})})
	for name, content := range files {
		if strings.Contains(content, "kanari-debug") {
			t.Errorf("%s has it:\n%s", name, content)
		}
	}
	if !strings.Contains(files["kubernetes/pods.json"], "debug") {
		t.Error("the container is missing")
	}
}
