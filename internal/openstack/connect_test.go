package openstack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

func TestConnectAsksNoMoreThanItNeeds(t *testing.T) {
	for _, path := range []string{"/identity/v3", "/identity/v3/", "/identity", "/identity/"} {
		c := newTestCloud(t, nil)
		cfg := c.config()
		cfg.AuthURL = c.URL + path
		client, err := Connect(t.Context(), cfg, Options{})
		if err != nil {
			t.Fatal(err)
		}
		client.Close()
		if got := c.record(); len(got) != 3 || got[0] != "POST /identity/v3/auth/tokens" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestConnectTellsWhatIsWrongInOneLine(t *testing.T) {
	refusing := httptest.NewServer(says(401, `{"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}}`))
	website := httptest.NewServer(says(200, "<html>Welcome</html>"))
	fileServer := httptest.NewServer(http.NotFoundHandler())
	down := httptest.NewServer(says(503, "<html><title>503 Service Unavailable</title></html>"))
	redirecting := httptest.NewServer(says(301, "", "Location", "https://elsewhere.example/"))
	chatty := httptest.NewServer(says(201, `{"token": "none"}`, "X-Subject-Token", "x"))
	secure := httptest.NewTLSServer(says(200, ""))
	for _, s := range []*httptest.Server{refusing, website, fileServer, down, redirecting, chatty, secure} {
		s.Config.ErrorLog = discard
		t.Cleanup(s.Close)
	}
	nobody := httptest.NewServer(nil)
	nobody.Close()
	good := newTestCloud(t, nil)
	tests := []struct {
		name   string
		change func(*CloudConfig)
		kind   error
		want   []string
	}{
		{"a wrong password", func(c *CloudConfig) { c.AuthURL = refusing.URL }, cloud.ErrUnauthorized, []string{refusing.URL, `username "demo"`, "req-1"}},
		{"a wrong application credential", func(c *CloudConfig) {
			c.AuthURL, c.ApplicationCredentialID, c.ApplicationCredentialSecret = refusing.URL, "ac1", "sesame"
		}, cloud.ErrUnauthorized, []string{refusing.URL, "application-credential-id ac1"}},
		{"nobody there", func(c *CloudConfig) { c.AuthURL = nobody.URL }, cloud.ErrUnavailable, []string{"auth-url " + nobody.URL, "can't be reached", "refused"}},
		{"a name that does not resolve", func(c *CloudConfig) { c.AuthURL = "http://keystone.invalid/v3" }, cloud.ErrUnavailable, []string{"auth-url http://keystone.invalid/v3", "can't be reached"}},
		{"a certificate of nobody", func(c *CloudConfig) { c.AuthURL = secure.URL }, cloud.ErrUnavailable, []string{secure.URL, "TLS", "ca-file"}},
		{"https to an http server", func(c *CloudConfig) { c.AuthURL = "https" + website.URL[4:] }, cloud.ErrUnavailable, []string{"speaks http, not https"}},
		{"a website", func(c *CloudConfig) { c.AuthURL = website.URL }, cloud.ErrUnavailable, []string{website.URL, "not a Keystone"}},
		{"a server of something else", func(c *CloudConfig) { c.AuthURL = fileServer.URL }, cloud.ErrUnavailable, []string{fileServer.URL, "not a Keystone", "404"}},
		{"a token that is none", func(c *CloudConfig) { c.AuthURL = chatty.URL }, cloud.ErrUnavailable, []string{chatty.URL, "not a Keystone"}},
		{"a redirection", func(c *CloudConfig) { c.AuthURL = redirecting.URL }, cloud.ErrUnavailable, []string{redirecting.URL, "301"}},
		{"a Keystone that is down", func(c *CloudConfig) { c.AuthURL = down.URL }, cloud.ErrUnavailable, []string{down.URL, "503 Service Unavailable"}},
		{"an unknown region", func(c *CloudConfig) { c.Region = "Mars" }, cloud.ErrUnsupported, []string{"Mars", "RegionOne"}},
		{"an interface that the catalog lacks", func(c *CloudConfig) { c.EndpointType = "internal" }, cloud.ErrUnsupported, []string{"os-endpoint-type internal", "block storage"}},
		{"a ca-file that is missing", func(c *CloudConfig) { c.CAFile = "/nowhere/ca.pem" }, nil, []string{"ca-file /nowhere/ca.pem", "no such file"}},
		{"a ca-file that is none", func(c *CloudConfig) { c.CAFile = "/etc/hostname" }, nil, []string{"ca-file /etc/hostname", "PEM"}},
		{"a certificate without its key", func(c *CloudConfig) { c.CertFile = "/cert.pem" }, nil, []string{"key-file"}},
		{"a certificate that is missing", func(c *CloudConfig) { c.CertFile, c.KeyFile = "/cert.pem", "/key.pem" }, nil, []string{"/cert.pem", "no such file"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := good.config()
			test.change(&cfg)
			_, err := Connect(t.Context(), cfg, Options{})
			checkLine(t, err, append(test.want, "/etc/cloud.conf [Global]")...)
			if test.kind != nil && !errors.Is(err, test.kind) {
				t.Errorf("%v is not %v", err, test.kind)
			}
			if contains(err, "sesame") {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestConnectGivesUpWithTheCaller(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(hang))
	t.Cleanup(silent.Close)
	cfg := newTestCloud(t, nil).config()
	cfg.AuthURL = silent.URL
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Connect(ctx, cfg, Options{})
	checkLine(t, err, silent.URL, "does not answer in time")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestConnectToServicesInTrouble(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		fail bool
	}{
		"a service that knows no versions":      {`{"versions": []}`, false},
		"a document that makes no sense":        {`{"versions": {"values": 7}}`, false},
		"a service that has no such document":   {"404", false},
		"a service that is down":                {"503", true},
		"a service that is behind a login page": {"<html>", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCloud(t, says(200, volumeBody(idA)))
			var down atomic.Bool
			down.Store(true)
			c.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path != "/volume/v3/" || !down.Load() {
					c.ServeHTTP(w, req)
					return
				}
				switch test.body {
				case "404":
					answer(w, 404, "")
				case "503":
					answer(w, 503, "")
				default:
					answer(w, 200, test.body)
				}
			})
			client, err := Connect(t.Context(), c.config(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if test.fail {
				// The other service works meanwhile, and this one when it is back.
				if _, err := client.GetServer(t.Context(), idA); !errors.Is(err, cloud.ErrUnavailable) || !contains(err, "server") {
					t.Errorf("Nova: %v", err)
				}
				_, err := client.CreateVolume(t.Context(), cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
				checkLine(t, err, "block storage endpoint", c.URL)
				if !errors.Is(err, cloud.ErrUnavailable) || cloud.Uncertain(err) {
					t.Errorf("%v, uncertain: %v", err, cloud.Uncertain(err))
				}
				down.Store(false)
				if err := client.ExtendVolume(t.Context(), idA, 2, true); err != nil {
					t.Error(err)
				}
				return
			}
			c.forget()
			if _, err := client.GetVolume(t.Context(), idA); err != nil {
				t.Error(err)
			}
			if got := c.header("OpenStack-API-Version"); len(got) != 1 || got[0] != "" {
				t.Errorf("asked for %q", got)
			}
			err = client.ExtendVolume(t.Context(), idA, 2, true)
			if !errors.Is(err, cloud.ErrUnsupported) || !contains(err, "3.42") || !contains(err, "none") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestMicroversionsOfRequests(t *testing.T) {
	tests := []struct {
		cinder, nova         string
		ignore               bool
		wantCinder, wantNova string
		wantInUse            string
	}{
		{"3.70", "2.93", false, "volume 3.66", "compute 2.60", "volume 3.66"},
		{"3.70", "2.93", true, "", "compute 2.60", "volume 3.42"},
		{"3.59", "2.60", false, "volume 3.59", "compute 2.60", "volume 3.59"},
		{"3.42", "2.53", false, "volume 3.42", "compute 2.53", "volume 3.42"},
	}
	for _, test := range tests {
		c := newTestCloud(t, script(says(200, volumeBody(idA)), says(202, ""), says(200, `{"volumeAttachments": []}`)))
		c.cinder, c.nova = test.cinder, test.nova
		client := c.connect(t, Options{IgnoreVolumeMicroversion: test.ignore})
		if _, err := client.GetVolume(t.Context(), idA); err != nil {
			t.Fatal(err)
		}
		if err := client.ExtendVolume(t.Context(), idA, 2, true); err != nil {
			t.Fatal(err)
		}
		if _, err := client.ListAttachments(t.Context(), idA); err != nil {
			t.Fatal(err)
		}
		got := c.header("OpenStack-API-Version")
		if got[0] != test.wantCinder || got[1] != test.wantInUse || got[2] != test.wantNova {
			t.Errorf("%+v: asked for %q", test, got)
		}
	}
}

func TestTLSWithACAFileOrWithoutVerification(t *testing.T) {
	c := newTLSCloud(t, says(200, volumeBody(idA)), nil)
	ca := writePEM(t, "CERTIFICATE", c.Certificate().Raw)
	for name, change := range map[string]func(*CloudConfig){
		"ca-file":      func(cfg *CloudConfig) { cfg.CAFile = ca },
		"tls-insecure": func(cfg *CloudConfig) { cfg.TLSInsecure = "true" },
	} {
		cfg := c.config()
		change(&cfg)
		client, err := Connect(t.Context(), cfg, Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := client.GetVolume(t.Context(), idA); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		client.Close()
	}
}

func TestHTTP2IsSpoken(t *testing.T) {
	protocols := make(chan string, 1)
	c := newTLSCloud(t, func(w http.ResponseWriter, req *http.Request) {
		protocols <- req.Proto
		answer(w, 200, volumeBody(idA))
	}, nil)
	cfg := c.config()
	cfg.TLSInsecure = "true"
	client, err := Connect(t.Context(), cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.GetVolume(t.Context(), idA); err != nil {
		t.Fatal(err)
	}
	if got := <-protocols; got != "HTTP/2.0" {
		t.Error(got)
	}
}

func TestClientCertificate(t *testing.T) {
	c := newTLSCloud(t, nil, func(conf *tls.Config) { conf.ClientAuth = tls.RequireAnyClientCert })
	cfg := c.config()
	cfg.TLSInsecure = "true"
	_, err := Connect(t.Context(), cfg, Options{})
	checkLine(t, err, "TLS", "cert-file", c.URL)
	cfg.CertFile, cfg.KeyFile = clientCertificate(t)
	client, err := Connect(t.Context(), cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
}

func TestAnAddressWithoutVersionIsCompleted(t *testing.T) {
	for _, test := range []struct{ raw, kind, want string }{
		{"http://h/volume/v3/p1", blockStorageType, "http://h/volume/v3/p1/"},
		{"http://h:8776/v3/", blockStorageType, "http://h:8776/v3/"},
		{"http://h/volume", blockStorageType, "http://h/volume/v3/p1/"},
		{"http://h:8774", computeType, "http://h:8774/v2.1/"},
		{"http://h/compute/v2.1", computeType, "http://h/compute/v2.1/"},
		{"http://dev2.example/compute/", computeType, "http://dev2.example/compute/v2.1/"},
	} {
		if got, err := versioned(test.raw, test.kind, "p1"); err != nil || got != test.want {
			t.Errorf("%s: %s, %v", test.raw, got, err)
		}
	}
	if _, err := versioned("nonsense", computeType, ""); err == nil {
		t.Error("nonsense passes")
	}
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// clientCertificate makes one that nobody has signed but itself.
func clientCertificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "driver"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "CERTIFICATE", cert), writePEM(t, "PRIVATE KEY", der)
}
