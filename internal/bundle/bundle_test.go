package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/bundle"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

const driver = "cinder.csi.openstack.org"

// apiserver answers with fixed texts by path, and 404 as the real one does to others.
type apiserver map[string]string

func (s apiserver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "secrets") {
		w.WriteHeader(http.StatusTeapot) // told in errors.txt: nobody asks for secrets
	}
	key := r.URL.Path
	if r.URL.Query().Get("previous") == "true" {
		key += "?previous"
	}
	text, ok := s[key]
	if most, err := strconv.Atoi(r.URL.Query().Get("limitBytes")); err == nil && len(text) > most {
		text = text[:most] // of a log, it is the beginning that is kept
	}
	switch {
	case !ok && strings.HasPrefix(r.URL.Path, "/apis/snapshot."):
		http.Error(w, "404 page not found", http.StatusNotFound)
	case !ok:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "no right to %s"}`, r.URL.Path)
	default:
		if strings.HasPrefix(text, "{") {
			w.Header().Set("Content-Type", "application/json")
		}
		_, _ = io.WriteString(w, text)
	}
}

// list is a list of objects.
func list(kind string, objects ...string) string {
	for i, object := range objects {
		objects[i] = strings.Replace(object, "{", fmt.Sprintf(`{"apiVersion": "v1", "kind": %q, `, kind), 1)
	}
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "%sList", "metadata": {}, "items": [%s]}`, kind, strings.Join(objects, ","))
}

// write makes a bundle and returns its files.
func write(t *testing.T, opts bundle.Options) (answer *bundle.Answer, files map[string]string) {
	t.Helper()
	opts.Made, opts.Driver = time.Unix(1_790_000_000, 0), driver
	if opts.Namespace == "" {
		opts.Namespace = "kube-system"
	}
	var out bytes.Buffer
	answer, err := bundle.Write(t.Context(), &out, opts)
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for reader := tar.NewReader(zip); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		root, name, _ := strings.Cut(header.Name, "/")
		if !strings.HasPrefix(root, "cinder-csi-2026") {
			t.Errorf("file %s", header.Name)
		}
		files[name] = string(content)
	}
	if len(files) != answer.Files {
		t.Errorf("%d files, %d told", len(files), answer.Files)
	}
	return answer, files
}

func connect(t *testing.T, s http.Handler) *kube.Client {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	client, err := kube.New(kube.Options{Master: server.URL, QPS: 1000, Burst: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// canaries are secrets in all the places where a cluster has some.
type canaries []string

func (c *canaries) plant(where string) string {
	secret := fmt.Sprintf("kanari-%02d-%s-Vögel", len(*c), where)
	*c = append(*c, secret)
	return secret
}

const pod = `{"metadata": {"name": "cinder-csi-controller-1", "namespace": "kube-system", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": %[1]q, "vault/password": %[2]q}},
 "spec": {"containers": [
  {"name": "cinder-csi-plugin", "image": "ghcr.io/cinder-csi/cinder-csi-controller:1", "args": ["--endpoint=unix:///csi/csi.sock", "--http-endpoint=:8080", "--x=token=%[3]s"],
   "env": [{"name": "OS_PASSWORD", "value": %[4]q}, {"name": "NODE_NAME", "value": "node-1"}, {"name": "HTTPS_PROXY", "value": "http://user:%[5]s@proxy:3128"}]},
  {"name": "csi-provisioner", "image": "registry.k8s.io/sig-storage/csi-provisioner:v6", "args": ["--http-endpoint=127.0.0.1:9808"]}]},
 "status": {"containerStatuses": [{"name": "cinder-csi-plugin", "restartCount": 1}]}}`

// TestNoSecretIsInTheBundle plants one wherever a cluster may have one.
func TestNoSecretIsInTheBundle(t *testing.T) {
	var c canaries
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("OS_PASSWORD", c.plant("environment"))
	t.Setenv("OS_REGION_NAME", "RegionOne")
	t.Setenv("MY_TOKEN", c.plant("variable"))
	clouds := file("clouds.yaml", fmt.Sprintf("clouds:\n  mine:\n    region_name: RegionOne\n    auth: {auth_url: 'http://127.0.0.1:1/v3', username: demo, password: %q, user_domain_name: d, project_name: p, project_domain_name: d}\n    unheard_of: [%q, {x: %q}]\n",
		c.plant("clouds"), c.plant("list"), c.plant("nested")))
	file("secure.yaml", fmt.Sprintf("clouds:\n  mine:\n    auth: {token: %q}\n", c.plant("secure")))
	key := "-----BEGIN PRIVATE KEY-----\n" + base64.StdEncoding.EncodeToString([]byte(c.plant("key"))) + "\n-----END PRIVATE KEY-----\n"
	confPassword, secret := c.plant("password"), c.plant("credential")
	conf := file("cloud.conf", fmt.Sprintf(`# the old password=%s
[Global]
auth-url=http://127.0.0.1:1/v3
username=demo
password="%s" ; a comment
domain-name=d
key-file=%s
passwort=%s
pass-phrase=one\
%s
[Global "b"]
auth-url=http://user:%s@127.0.0.1:1/v3
application-credential-id=0123
application-credential-secret=%s
[Global "c"]
use-clouds=true
clouds-file=%s
`, c.plant("comment"), confPassword, file("key.pem", key), c.plant("unknown"), c.plant("continued"), c.plant("userinfo"), secret, clouds))
	fernet := "gAAAAABm" + strings.Repeat("Zx9_", 20)
	jwt := "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl"
	c = append(c, fernet, jwt)
	logged := strings.Join([]string{
		"plain " + confPassword, "base64 " + base64.StdEncoding.EncodeToString([]byte(secret)), "X-Auth-Token: " + fernet, "Authorization: Bearer " + jwt,
		`{"msg": "request", "body": "{\"auth\": {\"password\": \"` + c.plant("quoted") + `\"}}"}`, "passphrase=" + c.plant("logged"), key,
		`{"level":"info","msg":"kept","volumeID":"5f0c1b1e-4e8b-4f0e-9d4c-1d3c9a2f7e66"}`,
	}, "\n")
	server := apiserver{
		"/version": `{"gitVersion": "v1.37.2"}`,
		"/api/v1/namespaces/kube-system/pods": list("Pod", fmt.Sprintf(pod, `{"stringData": {"x": "`+c.plant("applied")+`"}}`, c.plant("annotation"), c.plant("argument"), c.plant("env"), c.plant("proxy")),
			`{"metadata": {"name": "foreign", "namespace": "kube-system"}, "spec": {"containers": [{"name": "x", "image": "y", "args": ["`+c.plant("foreign")+`"]}]}}`),
		"/api/v1/namespaces/kube-system/pods/cinder-csi-controller-1/log":                logged,
		"/api/v1/namespaces/kube-system/pods/cinder-csi-controller-1/log?previous":       "panic, password: " + c.plant("previous"),
		"/api/v1/namespaces/kube-system/pods/cinder-csi-controller-1:8080/proxy/metrics": "cinder_csi_cloud_up{cloud=\"default\"} 1\ncinder_csi_token_expiry_timestamp_seconds{cloud=\"default\"} 1.79e+09\n",
		"/apis/storage.k8s.io/v1/storageclasses":                                         list("StorageClass", `{"metadata": {"name": "fast", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "`+c.plant("class")+`"}}, "provisioner": "`+driver+`", "parameters": {"type": "ssd", "password": "`+c.plant("parameter")+`"}}`, `{"metadata": {"name": "foreign"}, "provisioner": "ebs", "parameters": {"x": "`+c.plant("otherclass")+`"}}`),
		"/api/v1/persistentvolumes":                                                      list("PersistentVolume", `{"metadata": {"name": "pvc-1"}, "spec": {"csi": {"driver": "`+driver+`", "volumeHandle": "5f0c1b1e-4e8b-4f0e-9d4c-1d3c9a2f7e66", "nodeStageSecretRef": {"name": "luks", "namespace": "default"}}}}`, `{"metadata": {"name": "`+c.plant("foreignpv")+`"}, "spec": {"nfs": {}}}`),
		"/api/v1/persistentvolumeclaims":                                                 list("PersistentVolumeClaim", `{"metadata": {"name": "data", "namespace": "space"}, "spec": {"volumeName": "pvc-1"}}`, `{"metadata": {"name": "foreign", "namespace": "space", "labels": {"x": "`+c.plant("foreignclaim")+`"}}}`),
		"/api/v1/events":                                                                 list("Event", `{"metadata": {"name": "e1", "namespace": "space"}, "involvedObject": {"kind": "PersistentVolumeClaim", "namespace": "space", "name": "data"}, "message": "password=`+c.plant("event")+`"}`, `{"metadata": {"name": "e2", "namespace": "space"}, "involvedObject": {"kind": "Pod", "namespace": "space", "name": "web"}, "message": "AttachVolume.Attach failed for volume \"pvc-1\""}`, `{"metadata": {"name": "e3", "namespace": "space"}, "involvedObject": {"kind": "Pod", "name": "web"}, "message": "`+c.plant("foreignevent")+`"}`),
		"/apis/storage.k8s.io/v1/csinodes":                                               list("CSINode", `{"metadata": {"name": "node-1"}, "spec": {"drivers": [{"name": "`+driver+`", "nodeID": "n"}, {"name": "foreign", "nodeID": "`+c.plant("othernode")+`"}]}}`),
		"/api/v1/secrets":                                                                list("Secret", `{"metadata": {"name": "luks"}, "data": {"passphrase": "`+c.plant("luks")+`"}}`),
	}
	answer, files := write(t, bundle.Options{
		CloudConfig: []string{conf}, Cluster: connect(t, server), Arguments: []string{"support-bundle", "--cloud-config=" + conf},
		Reports: []bundle.Report{{Name: "check-config", Ask: func(context.Context) (report.Answer, error) { return told("leaked " + secret), nil }}},
	})
	for name, content := range files {
		for _, canary := range c {
			quoted, _ := json.Marshal(canary)
			for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary)), strings.Trim(string(quoted), `"`)} {
				if strings.Contains(name+content, form) {
					t.Errorf("%s has %q", name, form)
				}
			}
		}
	}
	for name, wanted := range map[string]string{
		"versions.txt":                                                "support-bundle --cloud-config=",
		"environment.txt":                                             "OS_PASSWORD=REDACTED\nOS_REGION_NAME=RegionOne\n",
		"check-config.txt":                                            "leaked REDACTED",
		"kubernetes/version.json":                                     "v1.37.2",
		"kubernetes/pods.json":                                        "cinder-csi-controller-1",
		"kubernetes/storageclasses.json":                              `"type": "ssd"`,
		"kubernetes/persistentvolumes.json":                           `"nodeStageSecretRef"`,
		"kubernetes/persistentvolumeclaims.json":                      `"data"`,
		"kubernetes/csinodes.json":                                    `"nodeID": "n"`,
		"kubernetes/events.json":                                      `AttachVolume.Attach failed for volume \"pvc-1\"`,
		"logs/cinder-csi-controller-1/cinder-csi-plugin.log":          `"msg":"kept","volumeID":"5f0c1b1e-4e8b-4f0e-9d4c-1d3c9a2f7e66"`,
		"logs/cinder-csi-controller-1/cinder-csi-plugin.previous.log": "panic",
		"metrics/cinder-csi-controller-1/cinder-csi-plugin.txt":       "cinder_csi_token_expiry_timestamp_seconds{cloud=\"default\"} 1.79e+09",
	} {
		if !strings.Contains(files[name], wanted) {
			t.Errorf("%s lacks %q:\n%s", name, wanted, files[name])
		}
	}
	shownConf := ""
	for name, content := range files {
		if strings.HasPrefix(name, "config/") {
			shownConf += content
		}
	}
	for _, wanted := range []string{"username = demo", "password = REDACTED", "passwort = REDACTED", "[Global \"b\"]", "application-credential-id = 0123", "region_name: RegionOne", "mine:"} {
		if !strings.Contains(shownConf, wanted) {
			t.Errorf("the configuration lacks %q:\n%s", wanted, shownConf)
		}
	}
	if len(answer.Missing) == 0 || !strings.Contains(files["errors.txt"], "csidrivers") {
		t.Errorf("what was refused is not told: %v\n%s", answer.Missing, files["errors.txt"])
	}
	if strings.Contains(files["errors.txt"], "secrets") || strings.Contains(files["errors.txt"], "volumesnapshot") {
		t.Errorf("errors.txt:\n%s", files["errors.txt"])
	}
}

// told is an answer of a command.
type told string

func (s told) Wrong() bool             { return true }
func (s told) Print(w io.Writer) error { _, err := io.WriteString(w, string(s)); return err }

// TestABundleWithoutAnything: nothing can be read, and that is told.
func TestABundleWithoutAnything(t *testing.T) {
	answer, files := write(t, bundle.Options{
		CloudConfig: []string{filepath.Join(t.TempDir(), "away")}, NoCluster: errors.New("this is no pod"),
		Reports: []bundle.Report{{Name: "inspect/node", Ask: func(context.Context) (report.Answer, error) { return nil, errors.New("this is no node") }}},
	})
	for _, wanted := range []string{"away", "kubernetes: this is no pod", "inspect/node: this is no node"} {
		if !strings.Contains(files["errors.txt"], wanted) || !strings.Contains(strings.Join(answer.Missing, "\n"), wanted) {
			t.Errorf("errors.txt lacks %q:\n%s", wanted, files["errors.txt"])
		}
	}
	if files["versions.txt"] == "" {
		t.Error("the version is missing")
	}
}

// TestABundleIsBounded: of a log without end the beginning and the end of what was asked for is kept.
func TestABundleIsBounded(t *testing.T) {
	server := apiserver{
		"/api/v1/namespaces/kube-system/pods":                             list("Pod", fmt.Sprintf(pod, "", "", "", "", "")),
		"/api/v1/namespaces/kube-system/pods/cinder-csi-controller-1/log": strings.Repeat("a line of a log\n", 1<<20),
	}
	_, files := write(t, bundle.Options{Cluster: connect(t, server)})
	if n := len(files["logs/cinder-csi-controller-1/cinder-csi-plugin.log"]); n == 0 || n > 8<<20+100 {
		t.Errorf("a log of %d bytes", n)
	}
}
