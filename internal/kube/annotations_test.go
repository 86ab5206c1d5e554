package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "secret-token-of-the-account"

func open(t *testing.T, opts kube.Options) *kube.Client {
	t.Helper()
	c, err := kube.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestAnnotationsAreRead(t *testing.T) {
	server := kubetest.New(t, token)
	want := map[string]string{"cinder.csi.openstack.org/affinity": "pvc-1"}
	server.Put("space/data-0", want)
	server.Put("space/bare", nil)
	dir := server.ServiceAccount(t, token)
	for name, opts := range map[string]kube.Options{
		"in a pod":                      {ServiceAccountDir: dir},
		"by a kubeconfig":               {Kubeconfig: server.Kubeconfig(t, token)},
		"by a kubeconfig and --master":  {Kubeconfig: server.Kubeconfig(t, token), Master: server.URL},
		"by a kubeconfig, host:port":    {Kubeconfig: server.Kubeconfig(t, token), Master: strings.TrimPrefix(server.URL, "https://")},
		"by a kubeconfig full of files": {Kubeconfig: withFiles(t, server)},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, opts)
			got, err := c.Annotations(t.Context(), kube.Claims, "space", "data-0")
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v %s", err, diff)
			}
			if got, err := c.Annotations(t.Context(), kube.Claims, "space", "bare"); len(got) != 0 || err != nil {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// withFiles is a kubeconfig whose parts are in files beside it.
func withFiles(t *testing.T, server *kubetest.Server) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"ca.pem": string(server.CA()), "token": token,
		"config": fmt.Sprintf(`{"current-context":"b","contexts":[{"name":"a"},{"name":"b","context":{"cluster":"c","user":"u"}}],
"clusters":[{"name":"c","cluster":{"server":%q,"certificate-authority":"ca.pem","tls-server-name":"example.com"}}],
"users":[{"name":"u","user":{"tokenFile":"token"}}]}`, server.URL),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "config")
}

func TestATokenThatIsExchangedIsTakenUp(t *testing.T) {
	server := kubetest.New(t, token)
	server.Put("space/data-0", nil)
	dir := server.ServiceAccount(t, token)
	c := open(t, kube.Options{ServiceAccountDir: dir})
	if _, err := c.Annotations(t.Context(), kube.Claims, "space", "data-0"); err != nil {
		t.Fatal(err)
	}
	server.SetToken("another")
	if _, err := c.Annotations(t.Context(), kube.Claims, "space", "data-0"); !errors.Is(err, kube.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Annotations(t.Context(), kube.Claims, "space", "data-0"); err != nil {
		t.Fatal(err)
	}
}

func TestWhatGoesWrongIsTold(t *testing.T) {
	server := kubetest.New(t, token)
	server.Put("space/data-0", nil)
	answer := func(code int, reason, message, name string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { kubetest.Status(w, code, reason, message, name) }
	}
	text := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, code) }
	}
	cases := map[string]struct {
		instead http.HandlerFunc
		want    error
		says    string
	}{
		"no such claim":                   {answer(404, "NotFound", "gone", "data-0"), kube.ErrNotFound, "space/data-0"},
		"another thing that is not there": {answer(404, "NotFound", "gone", "other"), kube.ErrUnavailable, "HTTP 404: gone"},
		"a server that is no apiserver":   {text(404, "404 page not found"), kube.ErrUnavailable, "HTTP 404"},
		"no permission":                   {answer(403, "Forbidden", `User "x" cannot get resource`, "data-0"), kube.ErrUnavailable, "the verb get for persistentvolumeclaims"},
		"a token that is not accepted":    {answer(401, "Unauthorized", "Unauthorized", ""), kube.ErrUnavailable, "HTTP 401: Unauthorized"},
		"too many requests":               {answer(429, "TooManyRequests", "slow down", ""), kube.ErrUnavailable, "HTTP 429: slow down"},
		"an apiserver that is starting":   {text(503, "starting"), kube.ErrUnavailable, "HTTP 503"},
		"an apiserver that has lost etcd": {answer(500, "InternalError", "etcdserver: request timed out", ""), kube.ErrUnavailable, "etcdserver"},
		"a page instead of a claim":       {text(200, "<html>"), kube.ErrUnavailable, "not about that object"},
		"a Status instead of a claim":     {answer(200, "", "hello", "data-0"), kube.ErrUnavailable, "not about that object"},
		"another claim":                   {text(200, `{"kind":"PersistentVolumeClaim","metadata":{"name":"data-1"}}`), kube.ErrUnavailable, "not about that object"},
		"half an answer":                  {text(200, `{"kind":"PersistentVolumeClaim","metadata":{"na`), kube.ErrUnavailable, "not about that object"},
		"a connection that breaks":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, kube.ErrUnavailable, "space/data-0"},
		"a redirection, which would take the token elsewhere": {func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "https://127.0.0.1:1/", http.StatusFound)
		}, kube.ErrUnavailable, "HTTP 302"},
		"no answer for long": {func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, kube.ErrUnavailable, "deadline"},
	}
	c := open(t, kube.Options{Kubeconfig: server.Kubeconfig(t, token), Timeout: 300 * time.Millisecond})
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			server.Instead(test.instead)
			_, err := c.Annotations(t.Context(), kube.Claims, "space", "data-0")
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "space/data-0") {
				t.Errorf("got %v", err)
			}
			if strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "\n") {
				t.Errorf("told badly: %q", err)
			}
		})
	}
	server.Instead(nil)
	if _, err := c.Annotations(t.Context(), kube.Claims, "space", "data-0"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestOddNamesAreNotAskedFor(t *testing.T) {
	server := kubetest.New(t, token)
	c := open(t, kube.Options{Kubeconfig: server.Kubeconfig(t, token)})
	for _, odd := range []string{"", "..", "a/b", "a?b", "A", "a%2fb", strings.Repeat("a", 254)} {
		for _, pair := range [][2]string{{odd, "x"}, {"x", odd}} {
			if _, err := c.Annotations(t.Context(), kube.Claims, pair[0], pair[1]); !errors.Is(err, kube.ErrNotFound) {
				t.Errorf("%q: %v", pair, err)
			}
		}
	}
	if n := server.Asked(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestRequestsAreLimitedAndGiveUpWithTheirCaller(t *testing.T) {
	server := kubetest.New(t, token)
	server.Put("space/data-0", nil)
	c := open(t, kube.Options{Kubeconfig: server.Kubeconfig(t, token), QPS: 0.001, Burst: 2})
	for range 2 {
		if _, err := c.Annotations(t.Context(), kube.Claims, "space", "data-0"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Annotations(t.Context(), kube.Claims, "space", "data-0"); !errors.Is(err, kube.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Annotations(ctx, kube.Claims, "space", "data-0"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := server.Asked(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestTheApiserverIsProvenBeforeItGetsTheToken(t *testing.T) {
	server := kubetest.New(t, token)
	dir := server.ServiceAccount(t, token)
	certificate, _ := selfSigned(t)
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	c := open(t, kube.Options{ServiceAccountDir: dir})
	if _, err := c.Annotations(t.Context(), kube.Claims, "space", "data-0"); !errors.Is(err, kube.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
	if server.Asked() != 0 {
		t.Error("the token went out")
	}
}
