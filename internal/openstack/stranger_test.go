package openstack

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// secretFor is the configuration of a secret that names a Keystone.
func secretFor(t *testing.T, authURL string) CloudConfig {
	t.Helper()
	cfg, _, found, err := SecretConfig(map[string]string{
		"auth-url": authURL, "application-credential-id": "x", "application-credential-secret": "y",
	})
	if !found || err != nil {
		t.Fatal(found, err)
	}
	return cfg
}

func TestAddressesOfSecrets(t *testing.T) {
	for _, test := range []struct {
		patterns string
		allowed  []string
		refused  []string
	}{
		{"", nil, []string{"https://keystone.example.com/v3"}},
		{"*", []string{"https://keystone.example.com/v3", "http://10.0.0.1/"}, []string{"https://user:word@h/v3", "https://h/v3?x=1", "https://h/a%2fb"}},
		{
			"https://keystone.example.com/v3",
			[]string{"https://keystone.example.com/v3", "https://Keystone.Example.COM:443/v3/", "https://keystone.example.com./v3"},
			[]string{
				"http://keystone.example.com/v3", "https://keystone.example.com:5000/v3", "https://keystone.example.com/v30", "https://keystone.example.com/",
				"https://keystone.example.com.evil.org/v3", "https://evil.org/keystone.example.com/v3", "https://keystone.example.com@evil.org/v3",
				"https://keystone.example.com/v3/../admin", "https://keystone.example.com/v3/%2e%2e/admin", "https://keystone.example.com/v3#x", "https://10.0.0.1/v3",
			},
		},
		{
			"https://*.example.com:5000",
			[]string{"https://a.example.com:5000/v3", "https://a.b.example.com:5000/identity"},
			[]string{"https://example.com:5000/v3", "https://evilexample.com:5000/v3", "https://a.example.com/v3", "http://a.example.com:5000/v3", "https://[::1%25.example.com]:5000/v3", "https://[::ffff:169.254.169.254%25x.example.com]:5000/v3"},
		},
		{"https://[fe80::1]", []string{"https://[fe80::1]/v3"}, []string{"https://[fe80::1%25eth0]/v3"}},
		{"http://*:5000/v3, https://[2001:db8::1]", []string{"http://any:5000/v3", "https://[2001:DB8::1]/v3"}, []string{"http://any/v3", "https://[2001:db8::2]/v3"}},
	} {
		a, err := ParseAddresses(strings.Split(test.patterns, ","))
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range test.allowed {
			if err := a.Permit(CloudConfig{AuthURL: address}); err != nil {
				t.Errorf("%q: %v", test.patterns, err)
			}
		}
		for _, address := range test.refused {
			if err := a.Permit(CloudConfig{AuthURL: address}); !errors.Is(err, cloud.ErrForbidden) || !contains(err, "--secret-auth-urls") || contains(err, "word") {
				t.Errorf("%q allows %s: %v", test.patterns, address, err)
			}
		}
	}
	for _, wrong := range []string{"keystone.example.com", "ftp://x", "https://", "https://u:p@x", "https://a.*.com", "https://*x.com", "https://x?y"} {
		if _, err := ParseAddresses([]string{wrong}); err == nil {
			t.Errorf("%q is an address", wrong)
		}
	}
}

// Whoever wrote a secret has the driver ask, and must not be told what is there.
func TestAnswersOfStrangersAreNotTold(t *testing.T) {
	const hint = "hunter2"
	bodies := map[string]string{
		"the usual form":  `{"error": {"message": "no role, try ` + hint + `"}}`,
		"another form":    `{"message": "` + hint + `"}`,
		"a page":          `<html><title>` + hint + `</title></html>`,
		"text":            hint,
		"a token's times": `{"token": {"issued_at": "` + hint + `", "expires_at": "` + hint + `", "project": {"id": "p"}, "catalog": []}}`,
		"no catalog":      `{"token": {"issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z", "project": {"id": "p"}, "catalog": "` + hint + `"}}`,
		"another catalog": `{"token": {"issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z", "project": {"id": "p"}, "catalog": [{"type": "volumev3", "endpoints": [{"interface": "public", "region": "` + hint + `", "region_id": "` + hint + `", "url": "` + hint + `"}]}]}}`,
		"a service's URL": `{"token": {"issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z", "project": {"id": "p"}, "catalog": [{"type": "volumev3", "endpoints": [{"interface": "public", "region": "R", "url": "` + hint + `"}]}]}}`,
	}
	for name, body := range bodies {
		for _, status := range []int{200, 201, 302, 400, 401, 403, 404, 409, 500} {
			inside := httptest.NewServer(says(status, body, "X-Subject-Token", "t", "Location", "http://"+hint+"/"))
			cfg := secretFor(t, inside.URL+"/latest/meta-data")
			for _, region := range []string{"", "R"} {
				if cfg.Region = region; region != "" && status != 201 {
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				_, err := Connect(ctx, cfg, Options{})
				cancel()
				if err == nil || contains(err, hint) || contains(err, "req-1") {
					t.Errorf("%s with HTTP %d: %v", name, status, err)
				}
			}
			inside.Close()
		}
	}
}

// The catalog of a Keystone that is the tenant's own names any address.
func TestTheCatalogOfASecretsCloudLeadsNowhereElse(t *testing.T) {
	var asked atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		answer(w, 200, `{"versions": []}`)
	}))
	t.Cleanup(inside.Close)
	elsewhere := strings.Replace(inside.URL, "127.0.0.1", "localhost", 1)
	for name, paths := range map[string][2]string{"with a version": {"/v3/x", "/v2.1"}, "without a version": {"/", "/"}} {
		keystone := httptest.NewServer(says(201, `{"token": {"issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z", "project": {"id": "p"}, "catalog": [
			{"type": "volumev3", "endpoints": [{"interface": "public", "url": "`+elsewhere+paths[0]+`"}]},
			{"type": "compute", "endpoints": [{"interface": "public", "url": "`+elsewhere+paths[1]+`"}]}]}}`, "X-Subject-Token", "t"))
		t.Cleanup(keystone.Close)
		_, err := Connect(t.Context(), secretFor(t, keystone.URL), Options{})
		if !errors.Is(err, cloud.ErrForbidden) || asked.Load() != 0 {
			t.Errorf("%s: %d requests, %v", name, asked.Load(), err)
		}
	}
	allowed, err := ParseAddresses([]string{"http://localhost"})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(elsewhere)
	if err != nil || !allowed.permitsHost(u, "http://127.0.0.1:5000/v3") {
		t.Error("the services of a cloud may be on a host that is allowed")
	}
	if allowed, err = ParseAddresses([]string{"https://*.example.com"}); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"https://cinder.example.com:8776/v3": true, "http://cinder.example.com/": false,
		"https://[::1%25.example.com]/v3": false, "https://cinder.example.com.evil.org/": false,
	} {
		if u, err = url.Parse(address); err != nil || allowed.permitsHost(u, "https://keystone.example.com/v3") != want {
			t.Errorf("%s is allowed: %t, %v", address, !want, err)
		}
	}
}

// What one answer of a Keystone that nobody vouches for takes.
func TestAnswersOfStrangersTakeLittleMemory(t *testing.T) {
	nested := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	for name, body := range map[string]string{
		"large":  `{"token": {"pad": "` + strings.Repeat("x", 60<<20) + `"}}`,
		"many":   `{"token": {"pad": [` + strings.Repeat("{},", 340_000) + `{}]}}`,
		"nested": `{"token": {"pad": [` + strings.Repeat(nested+",", 50) + `0]}}`,
	} {
		text := []byte(body)
		keystone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Subject-Token", "t")
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(text)
		}))
		t.Cleanup(keystone.Close)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Connect(t.Context(), secretFor(t, keystone.URL), Options{})
		runtime.ReadMemStats(&after)
		took := (after.TotalAlloc - before.TotalAlloc) >> 20
		if err == nil || took > 40 {
			t.Errorf("%s: %d MiB for a login that failed with %v", name, took, err)
		}
	}
}

func TestPagesOfStrangersAreBounded(t *testing.T) {
	volumes := `{"volumes": [` + strings.Repeat(`{"id": "`+idA+`", "metadata": {"a": "b", "c": "d"}},`, 999) + `{"id": "` + idA + `"}]}`
	for name, test := range map[string]struct {
		body string
		good bool
	}{
		"a page of 1000 volumes": {volumes, true},
		"empty volumes":          {`{"volumes": [` + strings.Repeat("{},", 1_000_000) + `{}]}`, false},
		"9 MiB":                  {`{"volumes": [], "pad": "` + strings.Repeat("x", 9<<20) + `"}`, false},
	} {
		c := newTestCloud(t, says(200, test.body))
		cfg := secretFor(t, c.URL+"/identity/v3")
		client, err := Connect(t.Context(), cfg, Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		if _, _, err := client.ListVolumes(t.Context(), cloud.VolumeFilter{}, cloud.Page{}); (err == nil) != test.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
