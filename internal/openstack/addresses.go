package openstack

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// Addresses are those that credentials of secrets may lead to. The zero value allows
// none.
type Addresses struct{ patterns []addressPattern }

// addressPattern is scheme://host[:port][/path]. A host of "*" is every host, and
// "*.example.com" every one below example.com. The path is where an address begins.
type addressPattern struct {
	any                bool
	scheme, host, path string
}

// ParseAddresses reads patterns: "https://keystone.example.com:5000/v3",
// "https://*.example.com", or "*" for every address.
func ParseAddresses(patterns []string) (Addresses, error) {
	var a Addresses
	for _, text := range patterns {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if text == "*" {
			a.patterns = append(a.patterns, addressPattern{any: true})
			continue
		}
		u, err := url.Parse(text)
		if err != nil || !plainURL(u) {
			return Addresses{}, fmt.Errorf("%q is not of the form https://HOST[:PORT][/PATH], https://*.DOMAIN or *", redacted(text))
		}
		a.patterns = append(a.patterns, addressPattern{scheme: u.Scheme, host: hostOf(u), path: cleanPath(u)})
	}
	return a, nil
}

// Off reports whether no address is allowed.
func (a Addresses) Off() bool { return len(a.patterns) == 0 }

// Permit returns a cloud.ErrForbidden that says why the credentials of a secret may not
// be sent to the auth-url of cfg.
func (a Addresses) Permit(cfg CloudConfig) error {
	if a.Off() {
		return fmt.Errorf("%w: credentials in secrets are switched off: --secret-auth-urls names no address", cloud.ErrForbidden)
	}
	u, err := url.Parse(cfg.AuthURL)
	if err == nil && plainURL(u) {
		for _, p := range a.patterns {
			if p.any || p.fits(u) && below(cleanPath(u), p.path) {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: --secret-auth-urls does not allow auth-url %s of the secret", cloud.ErrForbidden, redacted(cfg.AuthURL))
}

// permitsHost reports whether requests with credentials of a secret may go to the host
// of u: the host of their auth-url, or one of the patterns. Ports and paths are free,
// as services have their own.
func (a Addresses) permitsHost(u *url.URL, authURL string) bool {
	own, err := url.Parse(authURL)
	if err == nil && strings.EqualFold(u.Hostname(), own.Hostname()) && (u.Scheme == own.Scheme || u.Scheme == "https") {
		return true
	}
	for _, p := range a.patterns {
		if p.any || (u.Scheme == p.scheme || u.Scheme == "https") && p.fitsName(nameOf(u)) {
			return true
		}
	}
	return false
}

func (p addressPattern) fits(u *url.URL) bool {
	_, port, _ := net.SplitHostPort(p.host)
	_, has, _ := net.SplitHostPort(hostOf(u))
	return u.Scheme == p.scheme && has == port && p.fitsName(nameOf(u))
}

func (p addressPattern) fitsName(name string) bool {
	pattern, _, err := net.SplitHostPort(p.host)
	if err != nil || strings.Contains(name, "%") {
		return false // the zone of an IPv6 address may look like a domain
	}
	if domain, ok := strings.CutPrefix(pattern, "*"); ok {
		return domain == "" || strings.HasSuffix(name, domain) && len(name) > len(domain)
	}
	return name == pattern
}

// plainURL reports whether u is an http or https URL with nothing odd about it: what
// two readers of it could take for two addresses.
func plainURL(u *url.URL) bool {
	wild := strings.LastIndex(u.Hostname(), "*")
	return (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil && u.Opaque == "" &&
		u.RawQuery == "" && u.Fragment == "" && u.RawPath == "" && !strings.Contains(u.Hostname(), "%") && wild <= 0 &&
		(wild < 0 || u.Hostname() == "*" || strings.HasPrefix(u.Hostname(), "*.")) &&
		!strings.Contains(u.Path, "/../") && !strings.HasSuffix(u.Path, "/..")
}

func cleanPath(u *url.URL) string { return path.Clean("/" + u.Path) }

func below(address, pattern string) bool {
	return pattern == "/" || address == pattern || strings.HasPrefix(address, pattern+"/")
}

// nameOf returns the name of the host of u in its usual form.
func nameOf(u *url.URL) string { return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") }

// hostOf returns the host of u with its port, which a URL may leave out.
func hostOf(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(nameOf(u), port)
}
