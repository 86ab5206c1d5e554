package controller_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
)

const (
	affinity     = "cinder.csi.openstack.org/affinity"
	antiAffinity = "cinder.csi.openstack.org/anti-affinity"
)

// withClaims is a service that reads claims from an apiserver.
func withClaims(t *testing.T, latency devcloud.Latency) (*world, *kubetest.Server) {
	t.Helper()
	server := kubetest.New(t, "token")
	client, err := kube.New(kube.Options{Kubeconfig: server.Kubeconfig(t, "token"), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	w := newWorld(t, latency, func(_ *devcloud.Config, c *controller.Config) { c.Annotations = client.Annotations })
	return w, server
}

// forClaim asks for a volume for a claim in the namespace space.
func forClaim(name, claim string) *csi.CreateVolumeRequest {
	req := request(name, 1)
	req.Parameters = map[string]string{"csi.storage.k8s.io/pvc/name": claim, "csi.storage.k8s.io/pvc/namespace": "space"}
	return req
}

func TestAClaimPlacesItsVolumeNearOthersOrFarFromThem(t *testing.T) {
	w, server := withClaims(t, devcloud.Instant())
	for _, claim := range []string{"one", "two", "three"} {
		server.Put("space/"+claim, map[string]string{"other": "annotation"})
	}
	// The development cloud has a host for each of two types.
	file := w.create(forClaim("pvc-1", "one"))
	ssd := forClaim("pvc-2", "two")
	ssd.Parameters["type"] = "ssd"
	flash := w.create(ssd)
	for _, v := range []*csi.Volume{file, flash} {
		if len(v.GetVolumeContext()) != 0 {
			t.Errorf("volume context %v", v.GetVolumeContext())
		}
	}

	server.Put("space/three", map[string]string{affinity: " pvc-1 ,", antiAffinity: flash.GetVolumeId() + ", pvc-2"})
	near := forClaim("pvc-3", "three")
	first := w.create(near)
	want := map[string]string{affinity: file.GetVolumeId(), antiAffinity: flash.GetVolumeId()}
	if diff := cmp.Diff(want, first.GetVolumeContext()); diff != "" {
		t.Errorf("volume context: %s", diff)
	}
	got, err := w.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: first.GetVolumeId()})
	if err != nil || cmp.Diff(want, got.GetVolume().GetVolumeContext()) != "" {
		t.Errorf("read again: %v, %v", got, err)
	}

	// A repetition has the same answer, whatever has become of the claim.
	for what, change := range map[string]func(){
		"the annotation has changed":    func() { server.Put("space/three", map[string]string{affinity: "nobody"}) },
		"the apiserver is out of reach": func() { server.Instead(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) },
	} {
		change()
		if diff := cmp.Diff(first, w.create(near), protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}

	server.Instead(nil)
	server.Put("space/four", map[string]string{antiAffinity: "pvc-1"})
	_, err = w.CreateVolume(w.within(time.Minute), forClaim("pvc-4", "four"))
	wantCode(t, err, codes.ResourceExhausted, "weighted backend")
	server.Put("space/four", map[string]string{affinity: "pvc-2"})
	_, err = w.CreateVolume(w.within(time.Minute), forClaim("pvc-4", "four"))
	wantCode(t, err, codes.ResourceExhausted, "weighted backend")
	if n := len(w.dump().Volumes); n != 3 {
		t.Errorf("%d volumes", n)
	}
}

func TestNothingIsMadeForAClaimThatCannotBeRead(t *testing.T) {
	w, server := withClaims(t, devcloud.Instant())
	status := func(code int, reason string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) { kubetest.Status(rw, code, reason, reason, "claim") }
	}
	unnamed := request("pvc-1", 1)
	for name, c := range map[string]struct {
		instead http.HandlerFunc
		req     *csi.CreateVolumeRequest
		code    codes.Code
		words   string
	}{
		"it is gone":                 {status(404, "NotFound"), forClaim("pvc-1", "claim"), codes.FailedPrecondition, "space/claim"},
		"the account may not":        {status(403, "Forbidden"), forClaim("pvc-1", "claim"), codes.Unavailable, "persistentvolumeclaims"},
		"the token is not accepted":  {status(401, "Unauthorized"), forClaim("pvc-1", "claim"), codes.Unavailable, "401"},
		"the apiserver is broken":    {status(500, "InternalError"), forClaim("pvc-1", "claim"), codes.Unavailable, "500"},
		"the apiserver is slow":      {func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, forClaim("pvc-1", "claim"), codes.DeadlineExceeded, "space/claim"},
		"the provisioner names none": {nil, unnamed, codes.FailedPrecondition, "--extra-create-metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			server.Instead(c.instead)
			_, err := w.CreateVolume(w.within(10*time.Second), c.req)
			wantCode(t, err, c.code, c.words)
			if n := len(w.dump().Volumes); n != 0 {
				t.Fatalf("%d volumes", n)
			}
		})
	}
	server.Instead(nil)
	server.Put("space/claim", map[string]string{affinity: "nobody"})
	_, err := w.CreateVolume(w.within(time.Minute), forClaim("pvc-1", "claim"))
	wantCode(t, err, codes.InvalidArgument, "nobody")
	server.Put("space/claim", map[string]string{affinity: strings.Repeat("x,", 100)})
	_, err = w.CreateVolume(w.within(time.Minute), forClaim("pvc-1", "claim"))
	wantCode(t, err, codes.InvalidArgument, "at most 60")
}

func TestReadingAClaimCostsOneRequestAndOnlyWhenAVolumeIsMade(t *testing.T) {
	w, server := withClaims(t, devcloud.Instant())
	server.Put("space/claim", nil)
	w.resetRequests()
	for range 3 {
		w.create(forClaim("pvc-1", "claim"))
	}
	if got, want := w.spentCreating(3, 1), "volume.create:1"; got != want || server.Asked() != 1 {
		t.Errorf("requests %s and %d to the apiserver, want %s and 1", got, server.Asked(), want)
	}
}
