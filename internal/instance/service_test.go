package instance_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/instance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fromService(t *testing.T, url string) (instance.Identity, error) {
	t.Helper()
	return instance.New(instance.Options{
		MetadataURL: url, Order: []instance.Source{instance.MetadataService}, Timeout: 5 * time.Second,
	}).Identify(t.Context())
}

func TestAServiceThatIsBusyIsAskedAgain(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintf(w, `{"uuid":%q}`, serverID)
	}))
	defer server.Close()
	id, err := fromService(t, server.URL)
	if err != nil || id.ServerID != serverID || calls.Load() != 2 {
		t.Fatalf("got %+v, %v after %d calls", id, err, calls.Load())
	}
}

func TestWhatTheServiceMustNotDo(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"send us elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "HTTP 302"},
		{"answer without end", func(w http.ResponseWriter, _ *http.Request) {
			block := []byte(strings.Repeat(" ", 64<<10))
			for range 32 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, "larger than"},
		{"answer with something else", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("<html>log in first</html>"))
		}, "meta_data.json"},
		{"leave out the uuid", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"name":"x"}`))
		}, "no uuid"},
		{"name a uuid that is none", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"uuid":"../../etc"}`))
		}, "uuid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			id, err := fromService(t, server.URL)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %+v, %v, want an error with %q", id, err, tt.want)
			}
		})
	}
}

func TestTheServiceCanHaveAnIPv6Address(t *testing.T) {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Logf("no IPv6 here: %v", err)
		return
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"uuid":%q}`, serverID)
	}))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	defer server.Close()
	for _, url := range []string{server.URL, strings.Replace(server.URL, "::1]", "::1%25lo]", 1) + "/"} {
		if id, err := fromService(t, url); err != nil || id.ServerID != serverID {
			t.Errorf("%s: got %+v, %v", url, id, err)
		}
	}
}

func TestAMetadataURLMustBeOne(t *testing.T) {
	for _, url := range []string{"169.254.169.254", "ftp://host", "http://", "http://[fe80::1"} {
		if id, err := fromService(t, url); err == nil {
			t.Errorf("%s: got %+v", url, id)
		}
	}
}
