package openstack

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"sync"
	"time"
)

// Health is what a client knows of its cloud from the requests that have passed by. To
// read it asks nobody, and it holds no secret. A time that is not known is zero.
type Health struct {
	// Cloud is Options.Cloud.
	Cloud string
	// OfSecret tells that the credentials are those of a secret.
	OfSecret bool
	// Up tells that the client is ready, and that the newest request to each of Keystone,
	// Cinder and Nova was answered below HTTP 500 and not refused for the credentials. A
	// request whose caller gave up before the answer doesn't count. Err is why it is not.
	Up  bool
	Err error
	// LastSuccess is when the cloud last gave such an answer, and LastRequest when the newest
	// request that counts was sent.
	LastSuccess, LastRequest time.Time
	// TokenExpiry is by this machine's clock, the others are as they were told.
	TokenExpiry time.Time
	// CredentialExpiry is the end of the application credential, of the password, or of
	// the token of the configuration.
	CredentialExpiry time.Time
	// Certificates are the ends of certificates: of those that the services show, by
	// keystone, cinder and nova; by ca, of the authority that ends first of those that
	// vouch for these; by client, of cert-file.
	Certificates map[string]time.Time
}

// Health returns what is known now.
func (c *Client) Health() Health { return c.now().health() }

func (c *connection) health() Health {
	h := Health{Cloud: c.opts.Cloud, OfSecret: c.cfg.untrusted, Certificates: map[string]time.Time{}}
	add := func(name string, end time.Time) {
		if known := h.Certificates[name]; !end.IsZero() && (known.IsZero() || end.Before(known)) {
			h.Certificates[name] = end
		}
	}
	add("client", c.certificate)
	for _, service := range []string{keystoneName, cinderName, novaName} {
		s := c.sights[service].copy()
		add(service, s.certificate)
		add("ca", s.authority)
		h.Err = cmp.Or(h.Err, s.trouble)
		if s.success.After(h.LastSuccess) {
			h.LastSuccess = s.success
		}
		if s.sent.After(h.LastRequest) {
			h.LastRequest = s.sent
		}
	}
	if !c.connected.Load() {
		h.Err = cmp.Or(c.down.last(), h.Err, ErrConnecting)
	}
	h.Up = h.Err == nil
	h.TokenExpiry, h.CredentialExpiry = c.session.ends()
	return h
}

// sights are what a connection has seen of each service.
type sights map[string]*sight

func newSights() sights {
	return sights{keystoneName: {}, cinderName: {}, novaName: {}}
}

// sight is what the requests to one service have shown.
type sight struct {
	mu sync.Mutex
	seen
}

type seen struct {
	// trouble is what was wrong with the answer to the newest request, which was sent at
	// sent, and success when an answer was right.
	trouble       error
	sent, success time.Time
	// certificate and authority are when the service's certificate ends, and the first of
	// the authorities that vouch for it.
	certificate, authority time.Time
}

func (s *sight) copy() seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// note keeps what a request has shown. Why it had no answer is not known where its caller
// has cancelled it; one that the driver can do without says nothing by its failure; and one
// that hung has nothing to say any more where a newer one was answered.
func (s *sight) note(o *observation, resp *http.Response, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bad := o.trouble(resp, err)
	s.certificates(resp, err)
	switch {
	case err != nil && errors.Is(o.req.Context().Err(), context.Canceled), bad != nil && o.errand.request == credentialRequest:
		return
	case bad == nil:
		s.success = time.Now()
	}
	if !o.start.Before(s.sent) {
		s.trouble, s.sent = bad, o.start
	}
}

// certificates keeps when the certificates of a connection end, be they good or refused.
func (s *sight) certificates(resp *http.Response, err error) {
	var refused *tls.CertificateVerificationError
	switch {
	case resp != nil && resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0:
		s.certificate, s.authority = resp.TLS.PeerCertificates[0].NotAfter, authority(resp.TLS.VerifiedChains)
	case errors.As(err, &refused) && len(refused.UnverifiedCertificates) > 0:
		s.certificate, s.authority = refused.UnverifiedCertificates[0].NotAfter, time.Time{}
	}
}

// authority returns when the first of the authorities ends that vouch for a certificate:
// of the chain of them that lasts longest.
func authority(chains [][]*x509.Certificate) (last time.Time) {
	for _, chain := range chains {
		end := chain[len(chain)-1].NotAfter
		for _, one := range chain[1:] {
			if one.NotAfter.Before(end) {
				end = one.NotAfter
			}
		}
		if end.After(last) {
			last = end
		}
	}
	return last
}
