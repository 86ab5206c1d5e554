package driver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
)

func TestTheAffinityAndTheTagsOfAClaimReachTheVolume(t *testing.T) {
	c, conf := startCloud(t)
	server := kubetest.New(t, "token")
	server.Put("space/one", nil)
	server.Put("space/two", map[string]string{"cinder.csi.openstack.org/affinity": "pvc-1", "tags.example.com/team": "a"})
	s := start(t, driver.Config{
		Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""},
		PVCAnnotations: true, Kubernetes: kube.Options{ServiceAccountDir: server.ServiceAccount(t, "token")},
		TagAnnotationPrefix: "tags.example.com/", ExtraTags: map[string]string{"bill": "them"},
	})
	client := csi.NewControllerClient(s.conn)
	create := func(name, claim string) *csi.Volume {
		t.Helper()
		req := volume(name, nil)
		req.Parameters = map[string]string{"csi.storage.k8s.io/pvc/name": claim, "csi.storage.k8s.io/pvc/namespace": "space"}
		resp, err := client.CreateVolume(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetVolume()
	}
	first := create("pvc-1", "one")
	if got := create("pvc-2", "two").GetVolumeContext()["cinder.csi.openstack.org/affinity"]; got != first.GetVolumeId() {
		t.Errorf("near to %q", got)
	}
	dump, err := c.Admin().Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range dump.Volumes {
		if tagged := v.Metadata["team"] == "a"; v.Metadata["bill"] != "them" || tagged != (*v.Name == "pvc-2") {
			t.Errorf("metadata of %s: %v", *v.Name, v.Metadata)
		}
	}
}

func TestTheTokenOfTheServiceAccountIsNotTold(t *testing.T) {
	const canary = "canary-90be"
	_, conf := startCloud(t)
	server := kubetest.New(t, canary)
	s := &spy{secrets: map[string]string{}}
	cfg := s.config(conf, "")
	cfg.PVCAnnotations, cfg.Kubernetes = true, kube.Options{Kubeconfig: server.Kubeconfig(t, canary)}
	client := s.run(t, cfg)
	for _, instead := range []http.HandlerFunc{
		nil,
		func(w http.ResponseWriter, _ *http.Request) {
			kubetest.Status(w, 401, "Unauthorized", "Unauthorized", "")
		},
		func(w http.ResponseWriter, _ *http.Request) { kubetest.Status(w, 500, "InternalError", "broken", "") },
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		server.Instead(instead)
		req := volume("pvc-1", nil)
		req.Parameters = map[string]string{"csi.storage.k8s.io/pvc/name": "one", "csi.storage.k8s.io/pvc/namespace": "space"}
		_, err := client.CreateVolume(t.Context(), req)
		if err == nil {
			t.Error("a volume was made for a claim that could not be read")
		}
		s.hear(err)
	}
	if told := s.told.String(); strings.Contains(told, canary) || !strings.Contains(told, "space/one") {
		t.Errorf("told: %s", told)
	}
}
