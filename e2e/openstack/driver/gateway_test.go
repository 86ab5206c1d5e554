package driver

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/api"
	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack"
)

// gateway stands between the driver and the cloud, as load balancers do: the
// driver's cloud.conf names it, and so does the catalog that comes through it.
// It counts the requests, and fails them as it is told to.
type gateway struct {
	conf string

	mu     sync.Mutex
	counts map[string]int
	fail   func(*http.Request) mishap
}

// mishap is what happens to a request.
type mishap struct {
	// status is answered in place of the cloud's answer; 0 is the cloud's own.
	status int
	// cut breaks the connection in place of an answer.
	cut bool
	// after lets the cloud do what is asked for first.
	after bool
}

// newGateway starts one for Keystone, Cinder and Nova.
func newGateway(t *testing.T, cloud *stack.Cloud, session *api.Session) *gateway {
	t.Helper()
	g := &gateway{counts: map[string]int{}}
	addresses := map[string]string{}
	for _, address := range []string{cloud.Identity, session.Services["block-storage"], session.Services["compute"]} {
		target, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		target.Path = ""
		server := httptest.NewServer(g.handler(target, addresses))
		t.Cleanup(server.Close)
		addresses[target.String()] = server.URL
	}
	identity := cloud.Identity
	for origin, address := range addresses {
		identity = strings.ReplaceAll(identity, origin, address)
	}
	conf := fmt.Sprintf("[Global]\nauth-url=%s\nusername=%s\npassword=%s\ntenant-name=%s\ndomain-name=Default\ntenant-domain-name=Default\nregion=RegionOne\n",
		identity, cloud.Member.User, cloud.Member.Password, cloud.Member.Project)
	g.conf = filepath.Join(t.TempDir(), "cloud.conf")
	if err := os.WriteFile(g.conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// handler passes requests on to one service. The addresses in Keystone's
// catalog are replaced by the gateway's own; there are no more of them once the
// first request comes.
func (g *gateway) handler(target *url.URL, addresses map[string]string) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			if !strings.HasSuffix(resp.Request.URL.Path, "/auth/tokens") {
				return nil
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			for origin, address := range addresses {
				body = bytes.ReplaceAll(body, []byte(origin), []byte(address))
			}
			resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
		// The connection is cut where a service does not answer, as it would be
		// without the gateway.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := g.count(r)
		if what.after && (what.cut || what.status != 0) {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		switch {
		case what.cut:
			panic(http.ErrAbortHandler)
		case what.status != 0:
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(what.status)
			_, _ = fmt.Fprintf(w, "<html><head><title>%d %s</title></head></html>", what.status, http.StatusText(what.status))
		default:
			proxy.ServeHTTP(w, r)
		}
	})
}

// count counts a request and returns what is to happen to it.
func (g *gateway) count(r *http.Request) mishap {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts[kind(r)]++
	if g.fail == nil {
		return mishap{}
	}
	return g.fail(r)
}

// failing sets what happens to requests from now on; nil is nothing.
func (g *gateway) failing(fail func(*http.Request) mishap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail = fail
}

// once has the mishap happen to the next request of a kind, and to no other. It
// returns whether it has happened.
func (g *gateway) once(of string, what mishap) (happened func() bool) {
	done := false
	g.failing(func(r *http.Request) mishap {
		if done || kind(r) != of {
			return mishap{}
		}
		done = true
		return what
	})
	return func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return done
	}
}

// requests returns how many requests have come, by kind.
func (g *gateway) requests() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.counts)
}

var (
	anID     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	aProject = regexp.MustCompile(`^/v3/[0-9a-f]{32}`)
	aCompute = regexp.MustCompile(`^/v2\.1`)
	byName   = regexp.MustCompile(`(^|&)name=`)
)

// theTokens is the kind of a login.
const theTokens = "POST /v3/auth/tokens"

// kind names a request: method and path without ids, and whether a list looks
// for a name.
func kind(r *http.Request) string {
	path := anID.ReplaceAllString(aCompute.ReplaceAllString(aProject.ReplaceAllString(r.URL.Path, ""), ""), "ID")
	if byName.MatchString(r.URL.RawQuery) {
		path += "?name"
	}
	return r.Method + " " + path
}

// poll reports whether only waiting makes a request of this kind.
func poll(kind string) bool {
	return slices.Contains([]string{
		"GET /volumes/ID", "GET /volumes/detail", "GET /snapshots/ID", "GET /snapshots", "GET /backups/ID", "GET /backups/detail",
		"GET /servers/ID/os-volume_attachments",
	}, kind)
}

// spent returns the requests between two readings: changes, reads, and among
// the reads those that only waiting makes.
func spent(before, after map[string]int) (changes, reads, polls int) {
	for kind, n := range after {
		n -= before[kind]
		switch {
		case poll(kind):
			polls += n
		case kind == "GET /volumes/detail?name":
			// A creation looks for its volume by name once, and then waits by lists of that
			// name, which show another volume that has it, too.
			looked := min(n, after["POST /volumes"]-before["POST /volumes"])
			reads, polls = reads+looked, polls+n-looked
		case strings.HasPrefix(kind, http.MethodGet+" "):
			reads += n
		case kind != theTokens:
			changes += n
		}
	}
	return changes, reads, polls
}
