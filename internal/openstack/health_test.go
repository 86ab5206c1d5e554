package openstack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// certify makes a certificate that ends then: for 127.0.0.1, signed by an authority, or one
// of an authority that signs itself where by is nil.
func certify(t *testing.T, end time.Time, by *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(end.UnixNano()), Subject: pkix.Name{CommonName: end.String()},
		NotBefore: end.Add(-10000 * time.Hour), NotAfter: end, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true, IsCA: by == nil, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	made := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if made.Leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return made
}

func TestWhenCertificatesEnd(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	soon, later, gone := now.Add(50*time.Hour), now.Add(5000*time.Hour), now.Add(-time.Hour)
	authority := certify(t, later, nil)
	dying := certify(t, soon.Add(-time.Hour), nil)
	bundle := writePEM(t, "CERTIFICATE", authority.Certificate[0])
	certFile, keyFile := clientCertificate(t)
	client, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		leaf   tls.Certificate
		change func(*CloudConfig)
		want   map[string]time.Time
	}{
		"ends soon": {certify(t, soon, &authority), nil, map[string]time.Time{"keystone": soon, "cinder": soon, "nova": soon, "ca": later}},
		"the authority ends before": {certify(t, later, &dying), func(cfg *CloudConfig) { cfg.CAFile = writePEM(t, "CERTIFICATE", dying.Certificate[0]) },
			map[string]time.Time{"keystone": later, "cinder": later, "nova": later, "ca": soon.Add(-time.Hour)}},
		"not verified": {certify(t, soon, &authority), func(cfg *CloudConfig) { cfg.CAFile, cfg.TLSInsecure = "", "true" },
			map[string]time.Time{"keystone": soon, "cinder": soon, "nova": soon}},
		"has ended": {certify(t, gone, &authority), nil, map[string]time.Time{"keystone": gone}},
		"of the driver": {certify(t, soon, &authority), func(cfg *CloudConfig) { cfg.CertFile, cfg.KeyFile = certFile, keyFile },
			map[string]time.Time{"keystone": soon, "cinder": soon, "nova": soon, "ca": later, "client": client.Leaf.NotAfter}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTLSCloud(t, nil, func(conf *tls.Config) { conf.Certificates = []tls.Certificate{test.leaf} })
			cfg := c.config()
			cfg.CAFile = bundle
			if test.change != nil {
				test.change(&cfg)
			}
			registry := prometheus.NewPedanticRegistry()
			client, err := New(cfg, Options{Registerer: registry})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := client.Ready(t.Context()); (err == nil) != test.leaf.Leaf.NotAfter.After(now) {
				t.Errorf("got %v", err)
			}
			if got := client.Health(); !maps.EqualFunc(got.Certificates, test.want, time.Time.Equal) || got.Up != test.leaf.Leaf.NotAfter.After(now) {
				t.Errorf("got %+v, want %v", got, test.want)
			}
			want := &strings.Builder{}
			want.WriteString(`
# HELP cinder_csi_certificate_expiry_timestamp_seconds When a certificate ends: of keystone, cinder or nova as the service shows it, ca for the authority that ends first of those that vouch for them, client for cert-file.
# TYPE cinder_csi_certificate_expiry_timestamp_seconds gauge
`)
			for name, end := range test.want {
				_, _ = fmt.Fprintf(want, "cinder_csi_certificate_expiry_timestamp_seconds{certificate=%q,cloud=\"default\"} %d\n", name, end.Unix())
			}
			if err := testutil.GatherAndCompare(registry, strings.NewReader(want.String()), "cinder_csi_certificate_expiry_timestamp_seconds"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestACloudCanNotMakeUpLabels: be its statuses, ids and times as they may.
func TestACloudCanNotMakeUpLabels(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	statuses := make([]http.HandlerFunc, 0, 900)
	for status := 200; status < 1000; status++ {
		statuses = append(statuses, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", "never")
			w.Header().Set("X-Openstack-Request-Id", strings.Repeat("x", 100000))
			w.Header().Set("Retry-After", "1000000")
			w.WriteHeader(status)
		})
	}
	c := newTestCloud(t, script(statuses...))
	client := c.connect(t, Options{Registerer: registry})
	for range statuses {
		if err := client.DeleteVolume(t.Context(), idA); err != nil && len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for _, family := range families {
		series += len(family.GetMetric())
	}
	if series > 100 {
		t.Errorf("%d series", series)
	}
}

// TestARequestThatHungSaysNothingOfNow: nor does one whose caller went away.
func TestARequestThatHungSaysNothingOfNow(t *testing.T) {
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	slow := func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		answer(w, http.StatusInternalServerError, "{}")
	}
	c := newTestCloud(t, script(slow, says(200, volumeBody(idA)), hang))
	client := c.connect(t, Options{})
	done := make(chan error)
	go func() { done <- client.DeleteVolume(t.Context(), idA) }()
	<-arrived
	if _, err := client.GetVolume(t.Context(), idA); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := <-done; err == nil || !client.Health().Up {
		t.Errorf("%v: %+v", err, client.Health())
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := client.GetVolume(ctx, idA); err == nil || !client.Health().Up {
		t.Errorf("%v: %+v", err, client.Health())
	}
}
