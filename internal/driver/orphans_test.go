package driver_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

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

// Volumes that bear the empty name may be those of any cluster that has none.
func TestWithoutTheNameOfTheClusterNoOrphansAreCounted(t *testing.T) {
	_, conf := startCloud(t)
	server := kubetest.New(t, "token")
	address := freeAddress(t)
	core, logs := observer.New(zap.WarnLevel)
	ctx, cancel := context.WithCancel(t.Context())
	socket := "unix://" + filepath.Join(t.TempDir(), "csi.sock")
	done := make(chan error, 1)
	go func() {
		done <- driver.Run(ctx, driver.Config{
			Endpoint: socket, Controller: true, DefaultFSType: "ext4", CloudConfig: []string{conf}, CloudNames: []string{""}, HTTPEndpoint: address,
			CountOrphans: true, CountOrphansEvery: 10 * time.Millisecond, Kubernetes: kube.Options{ServiceAccountDir: server.ServiceAccount(t, "token")},
		}, zap.New(core))
	}()
	conn, err := grpc.NewClient(strings.Replace(socket, "//", "", 1), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := csi.NewControllerClient(conn).ListVolumes(t.Context(), &csi.ListVolumesRequest{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // ten counts
	if strings.Contains(get(t, "http://"+address+"/metrics"), "cinder_csi_orphans{") || server.Asked() > 0 {
		t.Error("orphans are counted")
	}
	if logs.FilterMessageSnippet("--count-orphans").Len() != 1 {
		t.Error("it isn't told")
	}
	cancel()
	if err := errors.Join(conn.Close(), <-done); err != nil {
		t.Error(err)
	}
}
