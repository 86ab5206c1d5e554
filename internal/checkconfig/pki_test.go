package checkconfig_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// tls has the gateway speak it, with a certificate that lasts so long, and writes the
// authority as CAFILE and a client's certificate, which lasts five days, as CERTFILE.
func (w *world) tls(lasts time.Duration) {
	root := w.certificate(nil, 365*day)
	leaf, client := w.certificate(&root, lasts), w.certificate(&root, 5*day)
	w.front.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{leaf}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: x509.NewCertPool()}
	w.front.TLS.ClientCAs.AddCert(root.Leaf)
	w.front.StartTLS()
	w.write("CAFILE", encode("CERTIFICATE", root.Leaf.Raw))
	w.write("CERTFILE", encode("CERTIFICATE", client.Leaf.Raw))
	key, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
	if err != nil {
		w.Fatal(err)
	}
	w.write("KEYFILE", encode("PRIVATE KEY", key))
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// certificate makes one for this machine, signed by an authority, or an authority.
func (w *world) certificate(authority *tls.Certificate, lasts time.Duration) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "cloud.example.com"},
		NotBefore: time.Now().Add(-30 * day), NotAfter: time.Now().Add(lasts),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, any(key)
	if authority == nil {
		template.Subject.CommonName, template.IsCA, template.BasicConstraintsValid = "authority", true, true
		template.KeyUsage, template.IPAddresses, template.ExtKeyUsage = x509.KeyUsageCertSign, nil, nil
	} else {
		parent, signer = authority.Leaf, authority.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		w.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		w.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
