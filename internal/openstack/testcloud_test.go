package openstack

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	idA = "0d5a1f2e-1111-4222-8333-00000000000a"
	idB = "0d5a1f2e-1111-4222-8333-00000000000b"
)

// discard keeps quiet about connections that tests break on purpose.
var discard = log.New(io.Discard, "", 0)

// testCloud is a cloud over real HTTP whose Keystone works and whose Cinder and
// Nova answer as each test wants.
type testCloud struct {
	*httptest.Server
	// Cinder and Nova are the newest microversions, none where empty.
	cinder, nova string
	// project is the id of the account's project, "p1" unless it is set.
	project atomic.Value
	// tokenLife is how long Keystone says a token lasts.
	tokenLife time.Duration
	// serve answers everything but tokens and versions.
	serve http.HandlerFunc
	// document answers for the versions of both, where it is set.
	document http.HandlerFunc
	// catalog is Keystone's, where it is set: ADDRESS stands for the server's address.
	catalog string

	mu       sync.Mutex
	issued   int
	good     map[string]bool // tokens; a new one leaves the others good
	requests []string
	headers  []http.Header
}

func newTestCloud(t *testing.T, serve http.HandlerFunc) *testCloud {
	t.Helper()
	c := &testCloud{cinder: "3.70", nova: "2.93", tokenLife: time.Hour, serve: serve, good: map[string]bool{}}
	c.Server = httptest.NewUnstartedServer(c)
	c.Config.ErrorLog = discard
	c.Start()
	t.Cleanup(c.Close)
	return c
}

// newTLSCloud is newTestCloud over TLS and HTTP/2, with a certificate that
// nobody has signed.
func newTLSCloud(t *testing.T, serve http.HandlerFunc, change func(*tls.Config)) *testCloud {
	t.Helper()
	c := &testCloud{cinder: "3.70", nova: "2.93", tokenLife: time.Hour, serve: serve, good: map[string]bool{}}
	c.Server = httptest.NewUnstartedServer(c)
	c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if change != nil {
		change(c.TLS)
	}
	c.EnableHTTP2 = true
	c.Config.ErrorLog = discard
	c.StartTLS()
	t.Cleanup(c.Close)
	return c
}

func (c *testCloud) config() CloudConfig {
	return CloudConfig{
		AuthURL: c.URL + "/identity/v3", Username: "demo", Password: "sesame", TenantName: "demo",
		DomainName: "Default", source: "/etc/cloud.conf [Global]",
	}
}

func (c *testCloud) connect(t *testing.T, opts Options) *Client {
	t.Helper()
	client, err := Connect(t.Context(), c.config(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	c.forget()
	return client
}

// forget clears the record of requests.
func (c *testCloud) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests, c.headers = nil, nil
}

// record returns the requests so far as "METHOD path?query".
func (c *testCloud) record() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// header returns a header of each request so far.
func (c *testCloud) header(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var values []string
	for _, h := range c.headers {
		values = append(values, h.Get(name))
	}
	return values
}

// expire makes every token so far a bad one.
func (c *testCloud) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.good)
}

func (c *testCloud) tokens() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.issued
}

func (c *testCloud) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimSuffix(req.URL.Path, "/")
	c.mu.Lock()
	c.requests = append(c.requests, strings.TrimSuffix(req.Method+" "+path+"?"+req.URL.RawQuery, "?"))
	c.headers = append(c.headers, req.Header.Clone())
	good := c.good[req.Header.Get("X-Auth-Token")]
	c.mu.Unlock()
	switch {
	case path == "/identity/v3/auth/tokens":
		c.token(w)
	case (path == "/volume/v3" || path == "/compute/v2.1") && c.document != nil:
		c.document(w, req)
	case path == "/volume/v3":
		_, _ = fmt.Fprintf(w, `{"versions": [{"id": "v3.0", "status": "CURRENT", "version": %q, "min_version": "3.0", "links": []}]}`, c.cinder)
	case path == "/compute/v2.1":
		_, _ = fmt.Fprintf(w, `{"version": {"id": "v2.1", "status": "CURRENT", "version": %q, "min_version": "2.1", "links": []}}`, c.nova)
	case !good:
		answer(w, http.StatusUnauthorized, `{"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}}`)
	default:
		c.serve(w, req)
	}
}

func (c *testCloud) token(w http.ResponseWriter) {
	c.mu.Lock()
	c.issued++
	token := fmt.Sprintf("secret-token-%d", c.issued)
	c.good[token] = true
	w.Header().Set("X-Subject-Token", token)
	life := c.tokenLife
	c.mu.Unlock()
	now := time.Now().UTC()
	project := "p1"
	if other, ok := c.project.Load().(string); ok {
		project = other
	}
	entry := func(kind, path string) string {
		return fmt.Sprintf(`{"type": %q, "name": "x", "endpoints": [{"interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": %q}]}`, kind, c.URL+path)
	}
	catalog := entry("volumev3", "/volume/v3/p1") + ", " + entry("compute", "/compute/v2.1")
	if c.catalog != "" {
		catalog = strings.ReplaceAll(c.catalog, "ADDRESS", c.URL)
	}
	answer(w, http.StatusCreated, fmt.Sprintf(`{"token": {"issued_at": %q, "expires_at": %q, "project": {"id": %q}, "catalog": [%s]}}`,
		now.Format(time.RFC3339Nano), now.Add(life).Format(time.RFC3339Nano), project, catalog))
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Openstack-Request-Id", "req-1")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// script answers one request after the other, the last one for ever.
func script(steps ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	next := 0
	return func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		step := steps[min(next, len(steps)-1)]
		next++
		mu.Unlock()
		step(w, req)
	}
}

func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		answer(w, status, body)
	}
}

// hangUp ends the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// hang reads the request, so that the server notices when the caller goes, and
// waits for that.
func hang(_ http.ResponseWriter, req *http.Request) {
	_, _ = io.Copy(io.Discard, req.Body)
	<-req.Context().Done()
}

// breakOff announces a whole answer and sends a part of it.
func breakOff(status int, part string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(part))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func volumeBody(id string) string {
	return fmt.Sprintf(`{"volume": {"id": %q, "status": "available", "size": 1}}`, id)
}
