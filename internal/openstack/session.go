package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	gopherstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/inflight"
)

const (
	// refusedPause and maxRefusedPause bound the pauses after a password that Keystone
	// refused. It locks an account after some wrong passwords, typically five
	// ([security_compliance] lockout_failure_attempts), and then refuses the right one,
	// too.
	refusedPause    = 30 * time.Second
	maxRefusedPause = 5 * time.Minute
	// renewalPause is left between two tries to renew a token that is still
	// good.
	renewalPause = 30 * time.Second
	// maxRenewalLead is how long before its end a token is renewed at the
	// most; Nova still uses a caller's token with Cinder for minutes.
	maxRenewalLead = 5 * time.Minute
)

// session holds the token of a cloud and renews it, once for everybody who
// needs it.
type session struct {
	conn     *connection
	client   http.Client
	renewals inflight.Group[string]
	// refused is the last authentication that Keystone refused.
	refused failure

	mu      sync.Mutex
	token   string
	renewAt time.Time
	expires time.Time
	// credential is when the credentials end, and asked tells that Keystone has said that,
	// or will not.
	credential time.Time
	asked      bool
}

// grant is what Keystone answers with a token.
type grant struct {
	token    string
	lifetime time.Duration
	project  string
	catalog  *tokens.ServiceCatalog
	// userID and credentialID are whose token it is; the latter is that of an application
	// credential, empty where the login was by other means.
	userID, credentialID string
	// ends is when the token does, by Keystone's clock, and password when that does, zero
	// where it does not.
	ends, password time.Time
}

// ends returns when the newest token and the credentials end.
func (s *session) ends() (token, credential time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expires, s.credential
}

// fixed tells that the token is one of the configuration, which can't be renewed.
func (s *session) fixed() bool { return s.conn.cfg.Token != "" }

// current returns a token that is believed to be good. One near its end is
// returned while it is renewed beside.
func (s *session) current(ctx context.Context) (string, error) {
	s.mu.Lock()
	token, now := s.token, time.Now()
	good := token != "" && (s.fixed() || now.Before(s.expires))
	renew := good && !s.fixed() && now.After(s.renewAt)
	if renew {
		s.renewAt = now.Add(renewalPause)
	}
	s.mu.Unlock()
	if good && !renew {
		return token, nil
	}
	renewed := func(ctx context.Context) (string, error) {
		return shared(ctx, s.conn.closing, &s.renewals, func(ctx context.Context) (string, error) {
			if newer := s.replaced(token); newer != "" {
				return newer, nil
			}
			g, err := s.authenticate(ctx)
			return g.token, err
		})
	}
	if good {
		go func() { _, _ = renewed(context.WithoutCancel(ctx)) }() // its failure is told when the token has ended
		return token, nil
	}
	return renewed(ctx)
}

// replaced returns the token that has taken the place of an old one, if any.
func (s *session) replaced(old string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == old || !time.Now().Before(s.expires) {
		return ""
	}
	return s.token
}

// invalidate forgets a token that a service has refused, unless it has been
// replaced meanwhile. It reports whether there can be another one.
func (s *session) invalidate(token string) bool {
	if s.fixed() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == token {
		s.token = ""
	}
	return true
}

// authenticate fetches a token and keeps it. Credentials that Keystone has just
// refused are not sent again.
func (s *session) authenticate(ctx context.Context) (g grant, err error) {
	if err := s.refused.remembered(); err != nil {
		return g, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.conn.opts.LoginTimeout)
	defer cancel()
	provider, err := gopherstack.NewClient(s.conn.cfg.AuthURL)
	if err != nil {
		return g, s.conn.cfg.errorf("auth-url: %w", err)
	}
	provider.HTTPClient, provider.UserAgent = s.client, s.conn.agent
	if g, err = s.login(ctx, provider); err != nil {
		return g, err
	}
	s.mu.Lock()
	now := time.Now()
	s.token = g.token
	s.expires = now.Add(g.lifetime)
	if s.fixed() { // it was issued at some time
		s.expires = g.ends
	}
	s.renewAt = s.expires.Add(-min(maxRenewalLead, g.lifetime/5))
	asked := s.asked
	s.mu.Unlock()
	if !asked {
		s.learnExpiry(ctx, provider, g)
	}
	return g, nil
}

// login sends the credentials.
func (s *session) login(ctx context.Context, provider *gophercloud.ProviderClient) (g grant, err error) {
	defer s.conn.metrics.observe(loginRequest, time.Now(), &err)
	opts := s.conn.cfg.authOptions()
	if err := gopherstack.AuthenticateV3(onErrand(ctx, loginRequest), provider, &opts, gophercloud.EndpointOpts{}); err != nil {
		if err = s.conn.cfg.authError(err); errors.Is(err, cloud.ErrUnauthorized) {
			s.refused.note(err)
		}
		return g, err
	}
	s.refused.note(nil)
	if g, err = newGrant(provider); err != nil {
		return g, s.conn.cfg.authError(err)
	}
	return g, nil
}

// learnExpiry finds out when the credentials end. The token tells that of a password. Of
// an application credential it is asked once, as that stays as it was made; where the
// account may not read it, it is not known.
func (s *session) learnExpiry(ctx context.Context, provider *gophercloud.ProviderClient, g grant) {
	var (
		end   time.Time
		asked bool
	)
	switch id := g.credentialID; {
	case s.fixed():
		end = g.ends
	case id != "":
		var answer struct {
			Credential struct {
				ExpiresAt timestamp `json:"expires_at"`
			} `json:"application_credential"`
		}
		ctx, cancel := context.WithTimeout(onErrand(ctx, credentialRequest), documentPatience)
		defer cancel()
		keystone := &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: provider.IdentityBase + "v3/"}
		address := keystone.ServiceURL("users", url.PathEscape(g.userID), "application_credentials", url.PathEscape(id))
		a, err := fetch(ctx, keystone, http.MethodGet, address, &gophercloud.RequestOpts{OkCodes: []int{http.StatusOK}})
		var status gophercloud.ErrUnexpectedResponseCode
		asked = err == nil || errors.As(err, &status) && status.Actual < http.StatusInternalServerError
		if json.Unmarshal(a.body, &answer) == nil {
			end = answer.Credential.ExpiresAt.Time
		}
	default:
		end = g.password
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credential, s.asked = end, asked
}

// errNoKeystone is an answer that no Keystone gives.
var errNoKeystone = errors.New("the answer holds no token")

// newGrant reads the answer that provider was authenticated with. The lifetime
// is Keystone's own difference, so that a wrong clock here does no harm.
func newGrant(provider *gophercloud.ProviderClient) (grant, error) {
	result, ok := provider.GetAuthResult().(interface {
		ExtractInto(any) error
		ExtractServiceCatalog() (*tokens.ServiceCatalog, error)
	})
	if !ok || provider.Token() == "" {
		return grant{}, errNoKeystone
	}
	var times struct {
		IssuedAt  time.Time       `json:"issued_at"`
		ExpiresAt time.Time       `json:"expires_at"`
		Project   tokens.Project  `json:"project"`
		User      json.RawMessage `json:"user"`
		ByAppCred json.RawMessage `json:"application_credential"`
	}
	if err := result.ExtractInto(&times); err != nil {
		return grant{}, errors.Join(errNoKeystone, err)
	}
	catalog, err := result.ExtractServiceCatalog()
	if err != nil {
		return grant{}, errors.Join(errNoKeystone, err)
	}
	g := grant{token: provider.Token(), catalog: catalog, project: times.Project.ID}
	// The driver works without what follows.
	var user struct {
		ID       string    `json:"id"`
		Password timestamp `json:"password_expires_at"`
	}
	if json.Unmarshal(times.User, &user) == nil {
		g.userID, g.password = user.ID, user.Password.Time
	}
	var credential struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(times.ByAppCred, &credential) == nil {
		g.credentialID = credential.ID
	}
	if times.IssuedAt.IsZero() {
		times.IssuedAt = time.Now()
	}
	g.ends, g.lifetime = times.ExpiresAt, max(0, times.ExpiresAt.Sub(times.IssuedAt))
	return g, nil
}

// authorized puts the session's token on every request, and repeats a request
// once with a new one when the service has refused it. A request that is
// refused for its token was not acted upon.
type authorized struct {
	next    http.RoundTripper
	session *session
}

// RoundTrip returns an answer of 401 only if a new token did not help, or if
// there is none to be had.
func (a *authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, token, err := a.send(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !a.session.invalidate(token) {
		return resp, err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return nil, &sendError{err: err}
	}
	resp, _, err = a.send(req)
	return resp, err
}

func (a *authorized) send(req *http.Request) (*http.Response, string, error) {
	token, err := a.session.current(req.Context())
	if err != nil {
		return nil, "", &sendError{err: err}
	}
	attempt := req.Clone(req.Context())
	attempt.Header.Set("X-Auth-Token", token)
	resp, err := a.next.RoundTrip(attempt)
	return resp, token, err
}
