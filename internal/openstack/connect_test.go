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
	"strings"
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

// What an endpoint says of its versions, and what a list says that is asked for with a
// microversion.
func TestAnEndpointWithoutAVersionDocument(t *testing.T) {
	good := says(200, volumeBody(idA))
	names := says(200, volumeBody(idA), "OpenStack-API-Version", "volume 3.66")
	refuses := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			if asked := req.Header.Get("OpenStack-API-Version"); asked != "" && asked != "volume 3.0" && asked != "volume 3.27" && asked != "volume 3.42" {
				answer(w, 406, body)
				return
			}
			good(w, req)
		}
	}
	none := map[string]http.HandlerFunc{
		"a login page":            func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>Portal</html>")) },
		"nothing":                 func(http.ResponseWriter, *http.Request) {},
		"null":                    says(200, "null"),
		"another document":        says(200, `{"versions": {"values": 7}}`),
		"no versions":             says(200, `{"versions": []}`),
		"versions that are null":  says(200, `{"versions": null}`),
		"microversions of null":   says(200, `{"versions": [{"id": "v3.0", "version": null, "min_version": null}]}`),
		"max_version of null":     says(200, `{"versions": [{"id": "v3.0", "max_version": null, "min_version": "3.0"}]}`),
		"no oldest":               says(200, `{"versions": [{"id": "v3.0", "version": "3.70", "min_version": ""}]}`),
		"another major version":   says(200, `{"versions": [{"id": "v4.0", "version": "4.7", "min_version": "4.0"}]}`),
		"refused credentials":     says(401, `{"error": {"code": 401}}`),
		"a refusal":               says(403, `{"forbidden": {}}`),
		"not found":               says(404, `{"error_code": "APIGW.0101"}`),
		"a redirection":           says(302, "", "Location", "https://portal.example/login"),
		"an error":                says(500, "oops"),
		"a service that is down":  says(503, ""),
		"a part":                  breakOff(200, `{"versions": [`),
		"a connection that ends":  hangUp,
		"nothing in time":         hang,
		"more than an answer has": says(200, `["`+strings.Repeat("x", 65<<20)+`"]`),
	}
	for name, document := range none {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTestCloud(t, good)
			c.document = document
			client := c.connect(t, Options{})
			if _, err := client.GetVolume(t.Context(), idA); err != nil {
				t.Error(err)
			}
			_, _ = client.ListAttachments(t.Context(), idA) // by then Nova has been asked as well
			c.forget()
			if _, err := client.GetVolume(t.Context(), idA); err != nil {
				t.Error(err)
			}
			if err := client.ExtendVolume(t.Context(), idA, 2, true); err != nil {
				t.Error(err)
			}
			if got := c.header("OpenStack-API-Version"); len(got) != 2 || got[0] != "" || got[1] != "volume 3.42" {
				t.Errorf("asked for %q", got)
			}
			// Cinder would make an empty volume of one from a backup.
			_, err := client.CreateVolume(t.Context(), cloud.VolumeRequest{Name: "x", SizeGiB: 1, BackupID: idB})
			if !errors.Is(err, cloud.ErrUnsupported) || !contains(err, "3.47") {
				t.Errorf("a volume from a backup: %v", err)
			}
		})
	}
	for _, test := range []struct {
		name       string
		list       http.HandlerFunc
		plain      string
		extendKind error
	}{
		{"the answer names the microversion", names, "volume 3.66", nil},
		{"a refusal with a range", refuses(`{"computeFault": {"message": "Version 3.66 is not supported by the API. Minimum is 3.0 and maximum is 3.42."}}`), "volume 3.42", nil},
		{"a refusal with a range that is too old", refuses(`{"computeFault": {"message": "Version 3.66 is not supported by the API. Minimum is 3.0 and maximum is 3.27."}}`), "volume 3.27", cloud.ErrUnsupported},
		{"a refusal without a range", refuses(`no`), "", nil},
		{"an answer without it", good, "", nil},
		{"a refusal", says(403, `{"forbidden": {}}`), "", cloud.ErrForbidden},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newTestCloud(t, test.list)
			c.document = says(404, "")
			client := c.connect(t, Options{})
			_, err := client.GetVolume(t.Context(), idA)
			if got := c.header("OpenStack-API-Version"); len(got) != 1 || got[0] != test.plain {
				t.Errorf("asked for %q, %v", got, err)
			}
			if err := client.ExtendVolume(t.Context(), idA, 2, true); !errors.Is(err, test.extendKind) {
				t.Errorf("growth in use: %v", err)
			}
		})
	}
}

// Nova refuses a multiattach volume without microversion 2.60, and may have it all the same.
func TestAMultiattachVolumeAtANovaWithoutAVersionDocument(t *testing.T) {
	for name, test := range map[string]struct {
		has  bool
		want error
	}{"that has it": {true, nil}, "that is too old": {false, cloud.ErrUnsupported}} {
		t.Run(name, func(t *testing.T) {
			c := newTestCloud(t, func(w http.ResponseWriter, req *http.Request) {
				switch {
				case req.Method == http.MethodGet:
					answer(w, 200, `{}`)
				case req.Header.Get("OpenStack-API-Version") == "compute 2.60" && test.has:
					answer(w, 200, `{"volumeAttachment": {"volumeId": "`+idB+`"}}`)
				default:
					answer(w, 400, `{"badRequest": {"message": "Multiattach volumes are only supported starting with compute API version 2.60."}}`)
				}
			})
			c.document = says(200, "<html>")
			client := c.connect(t, Options{})
			if _, err := client.AttachVolume(t.Context(), idA, idB); !errors.Is(err, test.want) {
				t.Error(err)
			}
			if got := c.header("OpenStack-API-Version"); len(got) != 2 || got[0] != "" || got[1] != "compute 2.60" {
				t.Errorf("asked for %q", got)
			}
		})
	}
}

// A 406 to what was asked for in the dark is no failure of the cloud.
func TestAMicroversionThatIsRefused(t *testing.T) {
	c := newTestCloud(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost {
			answer(w, 406, `{"computeFault": {"message": "Version 3.42 is not supported by the API."}}`)
			return
		}
		answer(w, 200, volumeBody(idA))
	})
	c.document = says(404, "")
	err := c.connect(t, Options{}).ExtendVolume(t.Context(), idA, 2, true)
	if !errors.Is(err, cloud.ErrUnsupported) || !contains(err, "Version 3.42 is not supported") || cloud.Uncertain(err) {
		t.Errorf("%v", err)
	}
}

func TestConnectToAServiceThatIsDown(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	var down atomic.Bool
	down.Store(true)
	c.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/volume/") && down.Load() {
			answer(w, 503, "")
			return
		}
		c.ServeHTTP(w, req)
	})
	client, err := Connect(t.Context(), c.config(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// The other service works meanwhile, and this one when it is back.
	if _, err := client.GetServer(t.Context(), idA); !errors.Is(err, cloud.ErrUnavailable) || !contains(err, "server") {
		t.Errorf("Nova: %v", err)
	}
	_, err = client.CreateVolume(t.Context(), cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
	checkLine(t, err, "block storage endpoint", c.URL)
	if !errors.Is(err, cloud.ErrUnavailable) || cloud.Uncertain(err) {
		t.Errorf("%v, uncertain: %v", err, cloud.Uncertain(err))
	}
	down.Store(false)
	if err := client.ExtendVolume(t.Context(), idA, 2, true); err != nil {
		t.Error(err)
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
	cinder, nova := blockStorage("p1"), compute()
	for _, test := range []struct {
		raw       string
		service   service
		want      string
		completed bool
	}{
		{"http://h/volume/v3/p1", cinder, "http://h/volume/v3/p1/", false},
		{"http://h:8776/v3/", cinder, "http://h:8776/v3/", false},
		{"http://h/volume", cinder, "http://h/volume/v3/p1/", true},
		{"http://h:8774", nova, "http://h:8774/v2.1/", true},
		{"http://h/compute/v2.1", nova, "http://h/compute/v2.1/", false},
		{"http://h/api/v1/compute/v2.1/", nova, "http://h/api/v1/compute/v2.1/", false},
		{"http://dev2.example/compute/", nova, "http://dev2.example/compute/v2.1/", true},
		{"http://dev.example/dev2/", nova, "http://dev.example/dev2/v2.1/", true},
	} {
		if got, completed, err := versioned(test.raw, test.service); err != nil || got != test.want || completed != test.completed {
			t.Errorf("%s: %s, %t, %v", test.raw, got, completed, err)
		}
	}
	if _, _, err := versioned("nonsense", nova); err == nil {
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
