package openstack

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
)

// CloudConfig says how to reach one cloud: a section [Global] or
// [Global "name"] of a cloud.conf. It holds secrets, which its String leaves
// out.
type CloudConfig struct {
	AuthURL  string `gcfg:"auth-url"`
	UserID   string `gcfg:"user-id"`
	Username string `gcfg:"username"`
	Password string `gcfg:"password"`

	// Tenant is the old word for project.
	TenantID         string `gcfg:"tenant-id"`
	TenantName       string `gcfg:"tenant-name"`
	TrustID          string `gcfg:"trust-id"`
	TrusteeID        string `gcfg:"trustee-id"`
	TrusteePassword  string `gcfg:"trustee-password"`
	DomainID         string `gcfg:"domain-id"`
	DomainName       string `gcfg:"domain-name"`
	TenantDomainID   string `gcfg:"tenant-domain-id"`
	TenantDomainName string `gcfg:"tenant-domain-name"`
	UserDomainID     string `gcfg:"user-domain-id"`
	UserDomainName   string `gcfg:"user-domain-name"`
	Region           string `gcfg:"region"`
	// EndpointType is public, internal or admin; public where empty.
	EndpointType string `gcfg:"os-endpoint-type"`
	// CAFile replaces the system's certificate authorities.
	CAFile string `gcfg:"ca-file"`
	// TLSInsecure turns verification off if it is exactly "true".
	TLSInsecure string `gcfg:"tls-insecure"`
	Token       string `gcfg:"token"`
	// CertFile and KeyFile are a client certificate for TLS.
	CertFile string `gcfg:"cert-file"`
	KeyFile  string `gcfg:"key-file"`

	// UseClouds fills what is empty here from an entry of a clouds.yaml.
	UseClouds  bool   `gcfg:"use-clouds"`
	CloudsFile string `gcfg:"clouds-file"`
	Cloud      string `gcfg:"cloud"`

	ApplicationCredentialID     string `gcfg:"application-credential-id"`
	ApplicationCredentialName   string `gcfg:"application-credential-name"`
	ApplicationCredentialSecret string `gcfg:"application-credential-secret"`

	// source is the file and the section, for errors.
	source string
	// untrusted marks the configuration of a secret, whose writer is not trusted.
	untrusted bool
	// caPEM are certificate authorities that replace the system's.
	caPEM []byte
}

// String tells where the configuration is from and which cloud it is about.
func (c CloudConfig) String() string {
	return fmt.Sprintf("%s (%s)", c.origin(), redacted(c.AuthURL))
}

// GoString is String, so that no verb prints a secret.
func (c CloudConfig) GoString() string { return c.String() }

func (c CloudConfig) origin() string {
	return cmp.Or(c.source, "cloud config")
}

func (c CloudConfig) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: %w", c.origin(), fmt.Errorf(format, args...))
}

// redacted returns a URL without the password that it may hold.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "a malformed URL"
	}
	return u.Redacted()
}

// check reports what is missing or contradicts itself, before anything is sent.
func (c CloudConfig) check() error {
	if c.AuthURL == "" {
		return c.errorf("auth-url is empty")
	}
	u, err := url.Parse(c.AuthURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return c.errorf("auth-url %s is not an http or https URL", redacted(c.AuthURL))
	}
	if _, ok := availability(c.EndpointType); !ok {
		return c.errorf("os-endpoint-type %q is not one of public, internal, admin", c.EndpointType)
	}
	return c.checkIdentity()
}

func (c CloudConfig) checkIdentity() error {
	switch {
	case c.Token != "":
		return nil
	case c.applicationCredential():
		if c.ApplicationCredentialSecret == "" {
			return c.errorf("application-credential-secret is empty")
		}
		if c.ApplicationCredentialID == "" && c.userID() == "" && (c.Username == "" || !c.userDomain()) {
			return c.errorf("application-credential-name needs user-id, or username and user-domain-name")
		}
		return nil
	case c.userID() == "" && c.Username == "":
		return c.errorf("username is empty, and there is no application-credential-id and no token")
	case c.password() == "":
		return c.errorf("password is empty")
	case c.userID() == "" && !c.userDomain():
		return c.errorf("username needs user-domain-name or user-domain-id, or domain-name or domain-id")
	case c.scopeWithoutDomain():
		return c.errorf("tenant-name needs tenant-domain-name or tenant-domain-id, or domain-name or domain-id")
	}
	return nil
}

func (c CloudConfig) applicationCredential() bool {
	return c.ApplicationCredentialID != "" || c.ApplicationCredentialName != ""
}

// userID and password are the trustee's where a trust names one.
func (c CloudConfig) userID() string {
	if c.TrustID != "" && c.TrusteeID != "" {
		return c.TrusteeID
	}
	return c.UserID
}

func (c CloudConfig) password() string {
	if c.TrustID != "" && c.TrusteePassword != "" {
		return c.TrusteePassword
	}
	return c.Password
}

func (c CloudConfig) scopeWithoutDomain() bool {
	scope := c.scope()
	return scope.ProjectName != "" && scope.DomainID == "" && scope.DomainName == ""
}

func (c CloudConfig) userDomain() bool {
	return c.UserDomainID != "" || c.UserDomainName != "" || c.DomainID != "" || c.DomainName != ""
}

// who names the account for an error.
func (c CloudConfig) who() string {
	switch {
	case c.Token != "":
		return "the token"
	case c.ApplicationCredentialID != "":
		return "application-credential-id " + c.ApplicationCredentialID
	case c.ApplicationCredentialName != "":
		return fmt.Sprintf("application-credential-name %q", c.ApplicationCredentialName)
	case c.userID() != "":
		return "user-id " + c.userID()
	}
	return fmt.Sprintf("username %q", c.Username)
}

// availability reads os-endpoint-type, or the interface of an endpoint. The long values
// are Keystone v2's, which clouds.yaml and catalogs may still have.
func availability(endpointType string) (gophercloud.Availability, bool) {
	switch short := gophercloud.Availability(strings.TrimSuffix(strings.ToLower(endpointType), "url")); short {
	case "":
		return gophercloud.AvailabilityPublic, true
	case gophercloud.AvailabilityPublic, gophercloud.AvailabilityInternal, gophercloud.AvailabilityAdmin:
		return short, true
	}
	return "", false
}
