package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestEveryCertificateIsGoodForItsUseAndNoOther(t *testing.T) {
	p := Paths{Dir: t.TempDir()}
	if err := p.makePKI(); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate(t, p.pki("ca.crt")))
	for _, id := range identities(specs()) {
		if _, err := tls.LoadX509KeyPair(p.pki(id.file+".crt"), p.pki(id.file+".key")); err != nil {
			t.Errorf("%s: %v", id.file, err)
		}
		cert := certificate(t, p.pki(id.file+".crt"))
		use, other := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
		if len(id.hosts) > 0 {
			use, other = other, use
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			t.Errorf("%s: %v", id.file, err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{other}}); err == nil {
			t.Errorf("%s is good for servers and clients", id.file)
		}
		for _, host := range id.hosts {
			if err := cert.VerifyHostname(host); err != nil {
				t.Errorf("%s: %v", id.file, err)
			}
		}
		if cert.Subject.CommonName != id.name || id.organization != "" && cert.Subject.Organization[0] != id.organization {
			t.Errorf("%s is %s", id.file, cert.Subject)
		}
	}
	front := x509.NewCertPool()
	front.AddCert(certificate(t, p.pki("front-ca.crt")))
	proxy := certificate(t, p.pki("front-proxy-client.crt"))
	if _, err := proxy.Verify(x509.VerifyOptions{Roots: front, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if _, err := proxy.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("the proxy's certificate is one of the cluster's users")
	}
}

func TestKeysAreMadeOnceAndOnlyTheirOwnerReadsThem(t *testing.T) {
	p := Paths{Dir: t.TempDir()}
	// What a command that was killed has left.
	if err := os.MkdirAll(p.run("pki.new", "rubbish"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.makePKI(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(p.pki("admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.makePKI(); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(p.pki("admin.kubeconfig"))
	if err != nil || string(after) != string(before) {
		t.Errorf("made again: %v", err)
	}
	entries, err := os.ReadDir(p.run("pki"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", entry.Name(), info.Mode(), err)
		}
	}
	if exists(filepath.Join(p.run("pki"), "rubbish")) {
		t.Error("an unfinished attempt was taken over")
	}
}

func TestAKubeconfigHoldsWhatItsUserNeeds(t *testing.T) {
	p := Paths{Dir: t.TempDir()}
	if err := p.makePKI(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(p.pki("kubelet-n2.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			} `json:"user"`
		} `json:"users"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	if config.Clusters[0].Cluster.Server != apiURL || !x509.NewCertPool().AppendCertsFromPEM(config.Clusters[0].Cluster.CA) {
		t.Errorf("%+v", config.Clusters)
	}
	if _, err := tls.X509KeyPair(config.Users[0].User.Cert, config.Users[0].User.Key); err != nil {
		t.Error(err)
	}
}
