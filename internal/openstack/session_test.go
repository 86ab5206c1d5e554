package openstack

import (
	"net/http"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
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
