package openstack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

// Account is who the driver is in a cloud.
type Account struct {
	// Kind is "password", "application credential", "token" or "trust".
	Kind string `json:"kind"`
	// User, Project and Domain are names; ids in brackets where there are any.
	User      string   `json:"user"`
	UserID    string   `json:"userID"`
	Project   string   `json:"project"`
	ProjectID string   `json:"projectID"`
	Roles     []string `json:"roles"`
	// TokenExpires is when the present token ends.
	TokenExpires time.Time `json:"tokenExpires"`
	// Credential is the name of an application credential, and Unrestricted tells that it
	// may make others.
	Credential   string `json:"credential,omitempty"`
	Unrestricted bool   `json:"unrestricted,omitempty"`
	// Expires is when the password or the application credential ends; nil where it
	// doesn't, or where the cloud does not tell, as Examination.Readings says.
	Expires *time.Time `json:"expires,omitempty"`
}

// CatalogEntry is an endpoint of the catalog.
type CatalogEntry struct {
	Type      string `json:"type"`
	Interface string `json:"interface"`
	Region    string `json:"region,omitempty"`
	URL       string `json:"url"`
}

// identity returns Keystone, with the account's token.
func (e *examiner) identity() (*endpoint, error) {
	return e.conn.endpoint(service{name: "identity", label: keystoneName, kind: "identity", major: 3, path: "v3"}, e.conn.cfg.AuthURL)
}

// getIdentity asks Keystone, which has no microversions.
func (e *examiner) getIdentity(ctx context.Context, operation string, headers map[string]string, into any, path ...string) error {
	keystone, err := e.identity()
	if err != nil {
		return err
	}
	for i := range path {
		path[i] = url.PathEscape(path[i])
	}
	r := call{operation: operation, resource: "Keystone", endpoint: keystone}
	a, err := fetch(ctx, &keystone.client, http.MethodGet, keystone.client.ServiceURL(path...), &gophercloud.RequestOpts{MoreHeaders: headers, OkCodes: []int{http.StatusOK}})
	switch {
	case err != nil:
		return r.failure(err)
	case a.broken != nil:
		return r.failure(&answerError{err: a.broken, status: a.status, requestID: requestID(a.header)})
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return r.unexpected("the answer can't be read: %w", err)
	}
	return nil
}

// shownToken is what Keystone tells about a token.
type shownToken struct {
	Token struct {
		ExpiresAt timestamp `json:"expires_at"`
		User      struct {
			named
			PasswordExpires *timestamp `json:"password_expires_at"`
		} `json:"user"`
		Project    named   `json:"project"`
		Roles      []named `json:"roles"`
		Credential *struct {
			named
			Restricted *bool `json:"restricted"`
		} `json:"application_credential"`
		Catalog []struct {
			Type      string `json:"type"`
			Endpoints []struct {
				Interface string `json:"interface"`
				Region    string `json:"region"`
				URL       string `json:"url"`
			} `json:"endpoints"`
		} `json:"catalog"`
	} `json:"token"`
}

// account asks Keystone about the driver's own token, which each account may.
func (e *examiner) account(ctx context.Context) error {
	token, err := e.conn.session.current(ctx)
	if err != nil {
		return err
	}
	var shown shownToken
	if err := e.getIdentity(ctx, "get token of", map[string]string{"X-Subject-Token": token}, &shown, "auth", "tokens"); err != nil {
		return err
	}
	t := shown.Token
	a := &Account{
		Kind: e.conn.cfg.kind(), User: t.User.Name, UserID: t.User.ID, Project: t.Project.Name, ProjectID: t.Project.ID,
		TokenExpires: t.ExpiresAt.Time,
	}
	for _, role := range t.Roles {
		a.Roles = append(a.Roles, role.Name)
	}
	slices.Sort(a.Roles)
	if t.User.PasswordExpires != nil && !t.User.PasswordExpires.IsZero() && t.Credential == nil {
		a.Expires = &t.User.PasswordExpires.Time
	}
	for _, entry := range t.Catalog {
		if !slices.Contains(append(gophercloud.ServiceTypeAliases["block-storage"], "block-storage", "compute"), entry.Type) {
			continue
		}
		for _, one := range entry.Endpoints {
			e.x.Catalog = append(e.x.Catalog, CatalogEntry{Type: entry.Type, Interface: one.Interface, Region: one.Region, URL: redacted(one.URL)})
		}
	}
	e.x.Account = a
	if t.Credential != nil {
		a.Credential, a.Unrestricted = t.Credential.Name, t.Credential.Restricted != nil && !*t.Credential.Restricted
		e.ask(ctx, ReadCredential, func(ctx context.Context) error { return e.credential(ctx, a, t.Credential.ID) })
	}
	return nil
}

// credential asks when the application credential ends.
func (e *examiner) credential(ctx context.Context, a *Account, id string) error {
	var shown struct {
		Credential struct {
			Expires *timestamp `json:"expires_at"`
		} `json:"application_credential"`
	}
	err := e.getIdentity(ctx, "get application credential of", nil, &shown, "users", a.UserID, "application_credentials", id)
	if at := shown.Credential.Expires; err == nil && at != nil && !at.IsZero() {
		a.Expires = &at.Time
	}
	return err
}

// kind names the sort of credentials.
func (c CloudConfig) kind() string {
	switch {
	case c.Token != "":
		return "token"
	case c.applicationCredential():
		return "application credential"
	case c.TrustID != "":
		return "trust"
	}
	return "password"
}

// Certificate is one of a host, or of a file of the configuration.
type Certificate struct {
	// Of is the key in cloud.conf that names the file: ca-file or cert-file; empty for a host's.
	Of      string    `json:"of,omitempty"`
	File    string    `json:"file,omitempty"`
	Subject string    `json:"subject"`
	Expires time.Time `json:"expires"`
}

// Host is an address that the driver speaks to.
type Host struct {
	// URL is the scheme and the host.
	URL string `json:"url"`
	// Certificates are what it shows, its own first.
	Certificates []Certificate `json:"certificates,omitempty"`
	// Distrust is why the certificate is not accepted; nil where it is, or where there is none.
	Distrust error `json:"-"`
	// Ahead is how far its clock is ahead of this machine's, nil where it doesn't tell.
	Ahead *time.Duration `json:"aheadNanoseconds,omitempty"`
	// Err is why it gives no answer.
	Err error `json:"-"`
}

// host asks a host for its certificate and the time, without a token. It accepts each
// certificate: nothing that is secret is sent.
func (e *examiner) host(ctx context.Context, raw string) {
	u, err := url.Parse(raw)
	if err != nil || slices.Contains(e.hosts, u.Scheme+u.Host) {
		return
	}
	e.hosts = append(e.hosts, u.Scheme+u.Host)
	found := Host{URL: u.Scheme + "://" + u.Host}
	settings := e.conn.base.TLSClientConfig.Clone()
	settings.InsecureSkipVerify = true // #nosec G402 -- see above; distrust verifies
	transport := newTransport(settings)
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, e.patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String(), nil)
	if err != nil {
		return
	}
	req.Header.Set("User-Agent", e.conn.agent.Join())
	sent := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		found.Err = fmt.Errorf("%s gives no answer: %w", found.URL, err)
		e.x.Hosts = append(e.x.Hosts, found)
		return
	}
	_ = resp.Body.Close()
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// Half of the way there and back, and half of the second that a Date leaves out.
		ahead := at.Add(time.Second / 2).Sub(sent.Add(time.Since(sent) / 2))
		found.Ahead = &ahead
	}
	if resp.TLS != nil {
		for _, one := range resp.TLS.PeerCertificates {
			found.Certificates = append(found.Certificates, Certificate{Subject: one.Subject.String(), Expires: one.NotAfter})
		}
		found.Distrust = distrust(resp.TLS, e.conn.base.TLSClientConfig.RootCAs, u.Hostname())
	}
	e.x.Hosts = append(e.x.Hosts, found)
}

// distrust verifies what a host has shown as a client does.
func distrust(state *tls.ConnectionState, roots *x509.CertPool, name string) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	between := x509.NewCertPool()
	for _, one := range state.PeerCertificates[1:] {
		between.AddCert(one)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between})
	return err
}

// certificates reads those of ca-file and cert-file.
func (c CloudConfig) certificates() (found []Certificate) {
	for _, file := range []struct{ key, path string }{{"ca-file", c.CAFile}, {"cert-file", c.CertFile}} {
		if file.path == "" {
			continue
		}
		text, err := os.ReadFile(file.path) // #nosec G304 -- a path from the operator
		if err != nil {
			continue // it could be read a moment ago
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if one, err := x509.ParseCertificate(block.Bytes); err == nil {
				found = append(found, Certificate{Of: file.key, File: file.path, Subject: one.Subject.String(), Expires: one.NotAfter})
			}
		}
	}
	return found
}
