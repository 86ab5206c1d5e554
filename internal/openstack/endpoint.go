package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/gophercloud/gophercloud/v2"
	gopherstack "github.com/gophercloud/gophercloud/v2/openstack"
	"golang.org/x/sync/singleflight"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// The service types that Keystone's catalog has for Cinder and Nova; gophercloud
// knows their older names.
const (
	blockStorageType = "block-storage"
	computeType      = "compute"
)

// endpoint is one service of a cloud.
type endpoint struct {
	// service is its name for people.
	service string
	client  gophercloud.ServiceClient
	conn    *connection
	// preferred is the microversion to use where the endpoint has it.
	preferred microversion

	flight singleflight.Group
	// learned tells that the microversions below are known, and stay as they are.
	learned atomic.Bool
	// oldest and newest are the microversions that it has; zero where it has
	// none.
	oldest, newest microversion
	// plain is the microversion of requests that need none in particular.
	plain microversion
}

// at returns a client that asks for a microversion. It shares all but that.
func (e *endpoint) at(v microversion) *gophercloud.ServiceClient {
	client := e.client
	client.Microversion = v.String()
	return &client
}

// locate finds a service in the catalog.
func (c *connection) locate(ctx context.Context, g grant, serviceType, service string) (*endpoint, error) {
	provider := &gophercloud.ProviderClient{
		HTTPClient: c.httpClient(&authorized{next: c.chain(service), session: c.session}),
		UserAgent:  c.agent,
	}
	opts := gophercloud.EndpointOpts{Region: c.cfg.Region}
	opts.Availability, _ = availability(c.cfg.EndpointType)
	opts.ApplyDefaults(serviceType)
	opts.Version = novaOrCinder(serviceType)
	raw, err := gopherstack.V3Endpoint(ctx, provider, g.catalog, opts)
	var missing *gophercloud.ErrEndpointNotFound
	if errors.As(err, &missing) {
		return nil, c.cfg.errorf("%w: %s", cloud.ErrUnsupported, c.cfg.notInCatalog(g, opts, service))
	}
	if err != nil {
		return nil, c.cfg.serviceError(service, err)
	}
	address, err := versioned(raw, serviceType, g.project)
	if err != nil && c.cfg.stranger {
		return nil, c.cfg.errorf("%w: the catalog's %s endpoint is not a URL", cloud.ErrUnavailable, service)
	}
	if err != nil {
		return nil, c.cfg.errorf("the catalog's %s endpoint: %w", service, err)
	}
	return &endpoint{
		service: service, conn: c,
		client: gophercloud.ServiceClient{ProviderClient: provider, Endpoint: address, Type: serviceType},
	}, nil
}

// notInCatalog says why a service was not found there, with the key to change.
func (c CloudConfig) notInCatalog(g grant, opts gophercloud.EndpointOpts, service string) string {
	switch {
	case len(g.catalog.Entries) == 0:
		return "the account's token has no catalog: set tenant-id or tenant-name"
	case c.stranger:
		return fmt.Sprintf("the catalog has no %s service with os-endpoint-type %s in region %q", service, opts.Availability, opts.Region)
	}
	regions, found := map[string]bool{}, []string{}
	for _, entry := range g.catalog.Entries {
		for _, e := range entry.Endpoints {
			if e.Region != "" && !regions[e.Region] {
				regions[e.Region] = true
				found = append(found, e.Region)
			}
		}
	}
	if opts.Region != "" && !regions[opts.Region] {
		return fmt.Sprintf("the catalog has no region %q, only %s", opts.Region, strings.Join(found, ", "))
	}
	return fmt.Sprintf("the catalog has no %s service with os-endpoint-type %s in region %q", service, opts.Availability, opts.Region)
}

var hasVersion = regexp.MustCompile(`/v[0-9.]+(/|$)`)

// versioned completes an address that lacks the version, and the project that
// Cinder wants after it.
func versioned(raw, serviceType, project string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("%s is not a URL", redacted(raw))
	}
	switch {
	case hasVersion.MatchString(u.Path):
	case serviceType == computeType:
		u = u.JoinPath("v2.1/")
	default:
		u = u.JoinPath("v3", project+"/")
	}
	return gophercloud.NormalizeURL(u.String()), nil
}

// chain returns what sends the requests of one service. A login that is repeated
// leaves nothing behind but a token.
func (c *connection) chain(service string) http.RoundTripper {
	r := &retrier{next: &exchange{base: c.base, service: service, conn: c}, limits: c.limits}
	if service == identityService {
		r.repeatable, r.limits = true, nil
	}
	return r
}

// httpClient follows no redirection: a token is for the endpoint that Keystone
// named, and a POST that comes back as a GET is no use.
func (c *connection) httpClient(transport http.RoundTripper) http.Client {
	return http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
