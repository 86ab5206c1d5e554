package openstack

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
)

// tlsConfig builds the TLS settings of ca-file, cert-file, key-file and
// tls-insecure.
func (c CloudConfig) tlsConfig() (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: c.TLSInsecure == "true", // #nosec G402 -- the operator's own choice
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, c.errorf("ca-file %s: %w", c.CAFile, reason(err))
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, c.errorf("ca-file %s holds no PEM certificate", c.CAFile)
		}
	}
	if len(c.caPEM) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(c.caPEM) {
			return nil, c.errorf("%s holds no PEM certificate", secretCA)
		}
	}
	if c.CertFile == "" && c.KeyFile == "" {
		return conf, nil
	}
	if c.CertFile == "" || c.KeyFile == "" {
		return nil, c.errorf("cert-file and key-file are to be given together")
	}
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, c.errorf("cert-file %s, key-file %s: %w", c.CertFile, c.KeyFile, err)
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf, nil
}

// tlsFailure reports whether err is about certificates or the protocol itself,
// which no repetition mends.
func tlsFailure(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		alert        tls.AlertError
		op           *net.OpError
	)
	switch {
	case errors.As(err, &verification), errors.As(err, &record), errors.As(err, &alert), errors.Is(err, http.ErrSchemeMismatch):
		return true
	case errors.As(err, &op):
		return op.Op == "remote error" || op.Op == "local error"
	}
	return false
}

// brokenOff reports whether the server ended a new connection before HTTP/2 had
// begun on it. With TLS 1.3 a server that misses a client certificate says so
// only after the handshake, and the HTTP/2 client, which may be quicker to see
// the end than the reason, has no error value for it.
func brokenOff(err error) bool {
	return strings.Contains(err.Error(), "http2: client conn could not be established")
}
