package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// lifetime of every certificate; a cluster is thrown away long before.
const lifetime = 365 * 24 * time.Hour

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// identity is what a certificate says about its owner.
type identity struct {
	file         string // name of the files, without .crt and .key
	name         string // common name: the user
	organization string // the group
	hosts        []string
}

// identities returns what the authority of the cluster signs: servers have
// hosts, clients have none.
func identities(nodes []spec) []identity {
	ids := []identity{
		{"apiserver", "kube-apiserver", "", []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
			"localhost", "127.0.0.1", serviceIP, hostIP,
		}},
		{"apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters", nil},
		{"admin", "admin", "system:masters", nil},
		{"controller-manager", "system:kube-controller-manager", "", nil},
		{"scheduler", "system:kube-scheduler", "", nil},
		{"proxy", "system:kube-proxy", "", nil},
	}
	for _, n := range nodes {
		user := "system:node:" + n.name
		ids = append(ids,
			identity{"kubelet-" + n.name, user, "system:nodes", nil},
			identity{"kubelet-server-" + n.name, user, "system:nodes", []string{n.name, n.address()}})
	}
	return ids
}

// makePKI writes every key, certificate and kubeconfig, once: a directory that
// is there is complete.
func (p Paths) makePKI() error {
	final := p.run("pki")
	if exists(final) {
		return nil
	}
	temp := final + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(temp, "ca")
	if err != nil {
		return err
	}
	front, err := newAuthority(temp, "front-ca")
	if err != nil {
		return err
	}
	if err := front.sign(temp, identity{file: "front-proxy-client", name: "front-proxy-client"}); err != nil {
		return err
	}
	for _, id := range identities(specs()) {
		if err := ca.sign(temp, id); err != nil {
			return err
		}
		if len(id.hosts) > 0 {
			continue
		}
		if err := writeKubeconfig(temp, id.file); err != nil {
			return err
		}
	}
	if err := writeAccountKeys(temp); err != nil {
		return err
	}
	return os.Rename(temp, final)
}

func newAuthority(dir, name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "cinder-csi-e2e " + name}, SerialNumber: big.NewInt(1),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert, key}, writePair(dir, name, der, key)
}

// sign makes a key and a certificate for an identity.
func (a *authority) sign(dir string, id identity) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: id.name}, SerialNumber: serial,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if id.organization != "" {
		template.Subject.Organization = []string{id.organization}
	}
	for _, host := range id.hosts {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("sign %s: %w", id.file, err)
	}
	return writePair(dir, id.file, der, key)
}

// writePair writes a certificate and its key.
func writePair(dir, name string, cert []byte, key *ecdsa.PrivateKey) error {
	if err := writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", cert); err != nil {
		return err
	}
	return writeKey(filepath.Join(dir, name+".key"), key)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	var text bytes.Buffer
	if err := pem.Encode(&text, &pem.Block{Type: kind, Bytes: der}); err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o600)
}

// writeAccountKeys makes the pair that signs service accounts' tokens.
func writeAccountKeys(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "accounts.pub"), "PUBLIC KEY", public); err != nil {
		return err
	}
	return writeKey(filepath.Join(dir, "accounts.key"), key)
}
