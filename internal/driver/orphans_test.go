package driver_test

import (
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
)

func TestOrphansAreCountedByListsThatPassByAnyway(t *testing.T) {
	c, conf := startCloud(t)
	server := kubetest.New(t, "token")
	address := freeAddress(t)
	s := start(t, driver.Config{
		Controller: true, Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""}, HTTPEndpoint: address,
		CountOrphans: true, CountOrphansEvery: 10 * time.Millisecond, Kubernetes: kube.Options{ServiceAccountDir: server.ServiceAccount(t, "token")},
	})
	client := csi.NewControllerClient(s.conn)
	if _, err := client.CreateVolume(t.Context(), volume("pvc-1", nil)); err != nil {
		t.Fatal(err)
	}
	counted := func() bool {
		return strings.Contains(get(t, "http://"+address+"/metrics"), `cinder_csi_orphans{cloud="default",kind="volume"} 0`)
	}
	if counted() {
		t.Error("something is counted before a list passed by")
	}
	before, err := c.Admin().Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.ListVolumes(t.Context(), &csi.ListVolumesRequest{}); err != nil {
		t.Fatal(err)
	}
	for !counted() {
		time.Sleep(5 * time.Millisecond)
	}
	after, err := c.Admin().Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Since(before).Total; n != 1 {
		t.Errorf("%d requests", n)
	}
}
