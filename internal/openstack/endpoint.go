package openstack

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// service is what the driver knows of Cinder or Nova before it asks.
type service struct {
	// name is for people, label for metrics, spans and the log.
	name, label string
	// kind is the type in Keystone's catalog; gophercloud knows its older names.
	kind string
	// major is the version of the API that the driver speaks, and path where it begins
	// below a URL without version.
	major int
	path  string
	// oldest is the microversion that each API of that version has, and preferred the one
	// to ask for where there is a choice.
	oldest, preferred microversion
	// list is the path of a list that every account may read.
	list string
}

func blockStorage(project string) service {
	return service{name: "block storage", label: cinderName, kind: "block-storage", major: 3, path: "v3/" + project, oldest: 3_000, preferred: cinderPreferred, list: "volumes"}
}

func compute() service {
	return service{name: "compute", label: novaName, kind: "compute", major: 2, path: "v2.1", oldest: 2_001, preferred: novaPreferred, list: "servers"}
}

// endpoint is one service of a cloud.
type endpoint struct {
	service
	client gophercloud.ServiceClient
	conn   *connection
	// completed tells that the catalog's URL names no version, and that the driver has
	// added its own.
	completed bool
	// withoutMicroversion tells that requests that need no microversion are sent without one.
	withoutMicroversion bool

	// asked is kept from when the microversions below are known: they stay as they are.
	asked cached[struct{}]
	// lowest and newest are the microversions that it has; zero where it tells none.
	lowest, newest microversion
	// normal is the microversion of requests that need none in particular.
	normal microversion
}

// at returns a client that asks for a microversion. It shares all but that.
func (e *endpoint) at(v microversion) *gophercloud.ServiceClient {
	client := e.client
	client.Microversion = v.String()
	return &client
}

// endpoint returns a service at the URL that the catalog has. It sends nothing.
func (c *connection) endpoint(s service, raw string) (*endpoint, error) {
	address, completed, err := versioned(raw, s)
	switch {
	case err != nil && c.cfg.untrusted:
		return nil, c.cfg.errorf("%w: the catalog's %s endpoint is not a URL", cloud.ErrUnavailable, s.name)
	case err != nil:
		return nil, c.cfg.errorf("the catalog's %s endpoint: %w", s.name, err)
	}
	provider := &gophercloud.ProviderClient{
		HTTPClient: c.httpClient(&authorized{next: c.chain(s.label), session: c.session}),
		UserAgent:  c.agent,
	}
	return &endpoint{
		service: s, conn: c, completed: completed,
		client: gophercloud.ServiceClient{ProviderClient: provider, Endpoint: address, Type: s.kind},
	}, nil
}

var versionSegment = regexp.MustCompile(`/v([0-9]+)(?:\.[0-9]+)?(?:/|$)`)

// lastVersion returns the major version in the path of a URL, 0 where there is none, and
// where its segment ends. The one before it is a gateway's own.
func lastVersion(path string) (major, end int) {
	for {
		found := versionSegment.FindStringSubmatchIndex(path[max(0, end-1):])
		if found == nil {
			return major, end
		}
		at := max(0, end-1)
		major, _ = strconv.Atoi(path[at+found[2] : at+found[3]])
		end = at + found[1]
	}
}

// versioned completes a URL that names no version, and reports whether it did.
func versioned(raw string, s service) (address string, completed bool, err error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "", false, fmt.Errorf("%s is not a URL", redacted(raw))
	}
	if major, _ := lastVersion(u.Path); major == 0 {
		u, completed = u.JoinPath(s.path), true
	}
	return gophercloud.NormalizeURL(u.String()), completed, nil
}

// chain returns what sends the requests of one service.
func (c *connection) chain(service string) http.RoundTripper {
	r := &retrier{next: &exchange{base: c.base, service: service, conn: c}, limits: c.limits}
	if service == keystoneName { // a login that is repeated leaves nothing behind but a token
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
