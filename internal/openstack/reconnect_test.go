package openstack

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// again is the configuration of the same project with other credentials.
func (c *testCloud) again() CloudConfig {
	cfg := c.config()
	cfg.Password = "open sesame"
	return cfg
}

func TestReconnect(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	client := c.connect(t, Options{})
	token := func() string {
		t.Helper()
		c.forget()
		if _, err := client.GetVolume(t.Context(), idA); err != nil {
			t.Error(err)
		}
		got := c.header("X-Auth-Token")
		if len(got) != 1 {
			t.Fatalf("%q", c.record())
		}
		return got[0]
	}
	first := token()
	wrong := c.config()
	wrong.AuthURL = c.URL + "/nowhere"
	if err := client.Reconnect(t.Context(), wrong); err == nil {
		t.Error("a Keystone that is none will do")
	}
	if now := token(); now != first {
		t.Errorf("after a failure the token is %s, not %s", now, first)
	}
	if err := client.Reconnect(t.Context(), c.again()); err != nil {
		t.Fatal(err)
	}
	if now := token(); now == first {
		t.Error("the token is still the first")
	}
	client.Close()
	if err := client.Reconnect(t.Context(), c.config()); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// Every volume of the old project would be a 404: DeleteVolume and
// ControllerUnpublishVolume would succeed without having done anything.
func TestReconnectStaysInItsProject(t *testing.T) {
	here := newTestCloud(t, says(200, volumeBody(idA)))
	elsewhere := newTestCloud(t, says(404, `{"itemNotFound": {"code": 404, "message": "Volume could not be found."}}`))
	client := here.connect(t, Options{})
	before := client.Project()
	for name, change := range map[string]func() CloudConfig{
		"another cloud": elsewhere.config,
		"another project of the cloud": func() CloudConfig {
			here.project.Store("p2")
			return here.config()
		},
	} {
		if err := client.Reconnect(t.Context(), change()); !errors.Is(err, ErrOtherProject) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := client.GetVolume(t.Context(), idA); err != nil || client.Project() != before {
			t.Errorf("%s: %v, and the project is %s", name, err, client.Project())
		}
	}
	here.project.Store("p1")
	same := here.config()
	same.AuthURL = here.URL + "/identity/"
	if err := client.Reconnect(t.Context(), same); err != nil {
		t.Errorf("the same Keystone without its version: %v", err)
	}
}

func TestReconnectBeforeTheFirstConnectionTakesWhatThereIs(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	cfg := c.config()
	cfg.AuthURL = "http://127.0.0.1:1/v3"
	client, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.Ready(t.Context()); !errors.Is(err, cloud.ErrUnavailable) {
		t.Fatal(err)
	}
	if err := client.Reconnect(t.Context(), c.config()); err != nil {
		t.Fatal(err)
	}
	if err := client.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReconnectWhileRequestsAreUnderWay(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	client := c.connect(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for ctx.Err() == nil {
				if _, err := client.GetVolume(t.Context(), idA); err != nil && !errors.Is(err, cloud.ErrUnavailable) {
					t.Error(err)
				}
			}
		})
	}
	for i := range 10 {
		if err := client.Reconnect(t.Context(), []CloudConfig{c.again(), c.config()}[i%2]); err != nil {
			t.Error(err)
		}
	}
	cancel()
	group.Wait()
}
