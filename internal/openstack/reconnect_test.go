package openstack

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

func TestReconnect(t *testing.T) {
	one, two := newTestCloud(t, says(200, volumeBody(idA))), newTestCloud(t, says(200, volumeBody(idA)))
	client := one.connect(t, Options{})
	read := func() {
		t.Helper()
		if _, err := client.GetVolume(t.Context(), idA); err != nil {
			t.Error(err)
		}
	}
	wrong := two.config()
	wrong.AuthURL = two.URL + "/nowhere"
	if err := client.Reconnect(t.Context(), wrong); err == nil {
		t.Error("a Keystone that is none will do")
	}
	one.forget()
	two.forget()
	read()
	if len(one.record()) != 1 || len(two.record()) != 0 {
		t.Errorf("after a failure the clouds were asked %q and %q", one.record(), two.record())
	}
	if err := client.Reconnect(t.Context(), two.config()); err != nil {
		t.Fatal(err)
	}
	one.forget()
	two.forget()
	read()
	if len(one.record()) != 0 || len(two.record()) != 1 {
		t.Errorf("the clouds were asked %q and %q", one.record(), two.record())
	}
	client.Close()
	if err := client.Reconnect(t.Context(), one.config()); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func TestReconnectWhileRequestsAreUnderWay(t *testing.T) {
	one, two := newTestCloud(t, says(200, volumeBody(idA))), newTestCloud(t, says(200, volumeBody(idA)))
	client := one.connect(t, Options{})
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
		if err := client.Reconnect(t.Context(), []*testCloud{two, one}[i%2].config()); err != nil {
			t.Error(err)
		}
	}
	cancel()
	group.Wait()
}
