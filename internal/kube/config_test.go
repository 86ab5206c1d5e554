package kube_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/kube"
)

// selfSigned returns a new certificate and its key in PEM.
func selfSigned(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

func TestAClientCertificateLogsIn(t *testing.T) {
	certificate, key := selfSigned(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if len(req.TLS.PeerCertificates) != 1 || req.Header.Get("Authorization") != "" {
			t.Errorf("certificates %d, authorization %q", len(req.TLS.PeerCertificates), req.Header.Get("Authorization"))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "PersistentVolumeClaim", "metadata": map[string]any{"name": "data-0", "annotations": map[string]string{"a": "b"}}})
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	encode := base64.StdEncoding.EncodeToString
	path := kubeconfig(t, fmt.Sprintf("{server: %q, insecure-skip-tls-verify: true}", server.URL),
		fmt.Sprintf("{client-certificate-data: %s, client-key-data: %s}", encode(certificate), encode(key)))
	got, err := open(t, kube.Options{Kubeconfig: path}).Annotations(t.Context(), kube.Claims, "space", "data-0")
	if err != nil || got["a"] != "b" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAProxyIsUsedWhereTheKubeconfigNamesOne(t *testing.T) {
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked = req.URL.Host
		http.Error(w, "no way", http.StatusBadGateway)
	}))
	t.Cleanup(proxy.Close)
	path := kubeconfig(t, fmt.Sprintf("{server: 'http://apiserver.test', proxy-url: %q}", proxy.URL), "{token: t}")
	_, err := open(t, kube.Options{Kubeconfig: path}).Annotations(t.Context(), kube.Claims, "space", "data-0")
	if err == nil || asked != "apiserver.test" {
		t.Errorf("asked for %q: %v", asked, err)
	}
}

// kubeconfig writes a kubeconfig with a cluster and a user.
func kubeconfig(t *testing.T, cluster, user string) string {
	t.Helper()
	return write(t, fmt.Sprintf("current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: %s}]\nusers: [{name: u, user: %s}]\n", cluster, user))
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestABadConfigurationIsToldAtOnceAndWithoutItsSecrets(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	const server = "{server: 'https://127.0.0.1:1'}"
	cases := map[string]struct {
		opts kube.Options
		says string
	}{
		"no pod, no kubeconfig":     {kube.Options{}, "--kubeconfig"},
		"no such file":              {kube.Options{Kubeconfig: "/no/such/file"}, "kubeconfig /no/such/file: no such file"},
		"no YAML":                   {kube.Options{Kubeconfig: write(t, "token: 'canary")}, "no YAML"},
		"YAML of another kind":      {kube.Options{Kubeconfig: write(t, "users: canary")}, "no YAML of the kind"},
		"an empty file":             {kube.Options{Kubeconfig: write(t, "")}, "no context"},
		"no such cluster":           {kube.Options{Kubeconfig: write(t, "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]")}, `no cluster "c"`},
		"no address":                {kube.Options{Kubeconfig: kubeconfig(t, "{}", "{}")}, `no server found for cluster "c"`},
		"an address that is none":   {kube.Options{Master: "ftp://x"}, "--master"},
		"a program without its API": {kube.Options{Kubeconfig: kubeconfig(t, server, "{exec: {command: canary}}")}, "apiVersion"},
		"a provider of long ago":    {kube.Options{Kubeconfig: kubeconfig(t, server, "{auth-provider: {name: gcp, config: {access-token: canary}}}")}, "gcp"},
		"a CA that is none":         {kube.Options{Kubeconfig: kubeconfig(t, "{server: x, certificate-authority-data: Y2FuYXJ5}", "{}")}, "PEM"},
		"a CA that is no base64":    {kube.Options{Kubeconfig: kubeconfig(t, "{server: x, certificate-authority-data: '-'}", "{}")}, "no YAML of the kind"},
		"a key without its half":    {kube.Options{Kubeconfig: kubeconfig(t, server, "{client-certificate-data: Y2FuYXJ5}")}, "client-key"},
		"a key that is missing":     {kube.Options{Kubeconfig: kubeconfig(t, server, "{client-certificate-data: Y2FuYXJ5, client-key: canary.pem}")}, "client-key"},
		"a proxy that is none":      {kube.Options{Kubeconfig: kubeconfig(t, "{server: x, proxy-url: canary}", "{}")}, "proxy-url"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := kube.New(test.opts)
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(strings.ReplaceAll(err.Error(), "canary.pem", ""), "canary") {
				t.Errorf("a secret is told: %v", err)
			}
		})
	}
}

func TestAPodWithoutItsServiceAccountIsTold(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	dir := t.TempDir()
	if _, err := kube.New(kube.Options{ServiceAccountDir: dir}); err == nil || !strings.Contains(err.Error(), "automountServiceAccountToken") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kube.New(kube.Options{ServiceAccountDir: dir}); err == nil || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("got %v", err)
	}
}

func FuzzKubeconfigsNeverDoHarm(f *testing.F) {
	f.Add("current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: {token: t}}]")
	f.Add("contexts: [{}]\nclusters: [{cluster: {certificate-authority-data: AA==}}]")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "kubeconfig")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := kube.New(kube.Options{Kubeconfig: path}); err == nil {
			c.Close()
		} else if strings.Contains(err.Error(), "\n") {
			t.Fatalf("more than a line: %q", err)
		}
	})
}
