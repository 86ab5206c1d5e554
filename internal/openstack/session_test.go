package openstack

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/inflight"
)

func TestAnExpiredTokenIsInvisible(t *testing.T) {
	c := newTestCloud(t, says(202, volumeBody(idA)))
	client := c.connect(t, Options{})
	c.expire()
	if _, err := client.CreateVolume(t.Context(), cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1}); err != nil {
		t.Fatal(err)
	}
	if got := c.record(); len(got) != 3 || got[0] != got[2] || got[1] != "POST /identity/v3/auth/tokens" {
		t.Errorf("%q", got)
	}
}

func TestConcurrentCallersShareOneNewToken(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	client := c.connect(t, Options{})
	for round := range 3 {
		before := c.tokens()
		c.expire()
		errs := make(chan error)
		for range 50 {
			go func() {
				_, err := client.GetVolume(t.Context(), idA)
				errs <- err
			}()
		}
		for range 50 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if got := c.tokens() - before; got != 1 {
			t.Errorf("round %d: %d new tokens", round, got)
		}
	}
}

func TestATokenIsRenewedBeforeItsEnd(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	c.tokenLife = time.Second
	client := c.connect(t, Options{})
	deadline := time.Now().Add(10 * time.Second)
	for c.tokens() == 1 && time.Now().Before(deadline) {
		if _, err := client.GetVolume(t.Context(), idA); err != nil {
			t.Fatal(err)
		}
	}
	if c.tokens() == 1 {
		t.Error("the token is still the first")
	}
}

func TestATokenThatNeverWorksEnds(t *testing.T) {
	c := newTestCloud(t, says(http.StatusUnauthorized, `{"error": {"message": "no"}}`))
	client := c.connect(t, Options{})
	_, err := client.GetVolume(t.Context(), idA)
	wanted{3, cloud.ErrUnauthorized, false}.check(t, c, err)
}

// gate is a front of a cloud that refuses logins while it is shut.
func gate(t *testing.T, c *testCloud) (authURL string, shut *atomic.Bool, logins *atomic.Int32) {
	t.Helper()
	shut, logins = new(atomic.Bool), new(atomic.Int32)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/auth/tokens") {
			logins.Add(1)
			if shut.Load() {
				answer(w, 401, `{"error": {"code": 401, "message": "The account is locked", "title": "Unauthorized"}}`)
				return
			}
		}
		c.ServeHTTP(w, req)
	}))
	t.Cleanup(front.Close)
	return front.URL + "/identity/v3", shut, logins
}

// While a password changes in Keystone first, and in the Secret second, calls must not
// lock the account.
func TestARefusedPasswordIsNotTriedByEveryCall(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	for name, untrusted := range map[string]bool{"of cloud.conf": false, "of a secret": true} {
		t.Run(name, func(t *testing.T) {
			authURL, shut, logins := gate(t, c)
			cfg := c.config()
			cfg.AuthURL, cfg.untrusted = authURL, untrusted
			client, err := Connect(t.Context(), cfg, Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			shut.Store(true)
			c.expire()
			logins.Store(0)
			for range 40 {
				if _, err := client.GetVolume(t.Context(), idA); !errors.Is(err, cloud.ErrUnauthorized) {
					t.Errorf("%v", err)
				}
			}
			if n := logins.Load(); n != 1 || !client.Refused() {
				t.Errorf("40 calls sent the password %d times", n)
			}
			shut.Store(false)
			if err := client.Reconnect(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			if _, err := client.GetVolume(t.Context(), idA); err != nil || client.Refused() {
				t.Errorf("after the credentials changed: %v", err)
			}
		})
	}
}

func TestAPasswordThatIsRefusedAtTheStartIsNotTriedByEveryCall(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	authURL, shut, logins := gate(t, c)
	shut.Store(true)
	cfg := c.config()
	cfg.AuthURL = authURL
	client, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	for range 40 {
		if err := client.Ready(t.Context()); !errors.Is(err, cloud.ErrUnauthorized) {
			t.Errorf("%v", err)
		}
	}
	if n := logins.Load(); n != 1 {
		t.Errorf("40 calls sent the password %d times", n)
	}
}

func TestPausesAfterFailuresDoubleAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := failure{first: 30 * time.Second, most: 5 * time.Minute}
		if f.remembered() != nil {
			t.Error("there was no failure")
		}
		refused := errors.New("refused")
		var pauses []time.Duration
		for range 6 {
			f.note(refused)
			start := time.Now()
			for f.remembered() != nil {
				if !errors.Is(f.remembered(), refused) {
					t.Fatal(f.remembered())
				}
				time.Sleep(time.Second)
			}
			pauses = append(pauses, time.Since(start))
		}
		for i, want := range []time.Duration{30, 60, 120, 240, 300, 300} {
			if got := pauses[i].Seconds(); got < float64(want)*0.79 || got > float64(want)*1.21+1 {
				t.Errorf("pauses %v", pauses)
			}
		}
		f.note(nil)
		f.note(refused)
		time.Sleep(37 * time.Second)
		if f.remembered() != nil {
			t.Error("a success does not end the long pauses")
		}
	})
}

func TestAPanicInAQuestionEndsThatQuestion(t *testing.T) {
	var questions inflight.Group[string]
	ask := func(context.Context) (string, error) { panic("x") }
	for range 2 {
		if _, err := shared(t.Context(), t.Context(), &questions, ask); err == nil || !strings.Contains(err.Error(), "panic: x") {
			t.Errorf("got %v", err)
		}
	}
	if got, err := shared(t.Context(), t.Context(), &questions, func(context.Context) (string, error) { return "fine", nil }); got != "fine" {
		t.Error(got, err)
	}
}

// A Keystone may be slower than any other service.
func TestASlowKeystoneHasItsOwnTime(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/auth/tokens") {
			time.Sleep(300 * time.Millisecond)
		}
		c.ServeHTTP(w, req)
	}))
	t.Cleanup(slow.Close)
	cfg := c.config()
	cfg.AuthURL = slow.URL + "/identity/v3"
	client, err := Connect(t.Context(), cfg, Options{WriteTimeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	_, err = Connect(t.Context(), cfg, Options{LoginTimeout: 100 * time.Millisecond})
	checkLine(t, err, slow.URL, "does not answer in time")
}
