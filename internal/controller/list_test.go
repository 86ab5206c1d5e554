package controller_test

import (
	"fmt"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/controller/controllertest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// onlyCloud leaves one cloud of the two.
func (w *world) onlyCloud() {
	w.Helper()
	service := volumes.New(connect(w.T, w.cloud), volumes.Options{Cluster: "test"})
	w.Server = controller.New(controller.Config{Source: controllertest.Clouds{"": service}, WithTopology: true})
	w.resetRequests()
}

func TestAListGoesOnWhenTheVolumeAtItsMarkIsDeleted(t *testing.T) {
	for _, version := range []string{"3.70", "3.59"} {
		t.Run("Cinder "+version, func(t *testing.T) {
			w := newWorld(t, devcloud.Instant(), func(c *devcloud.Config, _ *controller.Config) {
				c.Behaviour = &devcloud.Behaviour{VolumeVersion: version}
			})
			w.onlyCloud()
			kept := make(map[string]int)
			for i := range 9 {
				kept[w.create(request(fmt.Sprintf("pvc-%d", i), 1)).GetVolumeId()] = 0
			}
			req := &csi.ListVolumesRequest{MaxEntries: 2}
			for {
				resp, err := w.ListVolumes(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				entries := resp.GetEntries()
				if len(entries) > 2 {
					t.Fatalf("%d on a page of 2", len(entries))
				}
				for _, e := range entries {
					kept[e.GetVolume().GetVolumeId()]++
				}
				if req.StartingToken = resp.GetNextToken(); req.StartingToken == "" {
					break
				}
				last := entries[len(entries)-1].GetVolume().GetVolumeId()
				w.remove(last)
				w.create(request("new-"+last, 1)) // it may show up, and disturbs nothing
			}
			if len(kept) < 9 {
				t.Errorf("%d volumes", len(kept))
			}
			for id, n := range kept {
				if n != 1 {
					t.Errorf("volume %s was listed %d times", id, n)
				}
			}
		})
	}
}

func TestThePagesOfAListCostOneRequestEach(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	w.onlyCloud()
	for i := range 5 {
		w.create(request(fmt.Sprintf("pvc-%d", i), 1))
	}
	w.resetRequests()
	req := &csi.ListVolumesRequest{MaxEntries: 2}
	for pages := 1; ; pages++ {
		resp, err := w.ListVolumes(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.requests().Total; got != int64(pages) {
			t.Fatalf("%d requests for %d pages", got, pages)
		}
		if req.StartingToken = resp.GetNextToken(); req.StartingToken == "" {
			break
		}
	}
}

func TestTokensThatAreNoneMakeTheCallerStartOver(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	const id = "0d5a1f2e-1111-4222-8333-00000000000a"
	w.resetRequests()
	for _, token := range []string{"x", "@5", id + "@", id + "@x", id + "@1.5", "../" + id, id + ":nowhere", id + "@99999999999999999999"} {
		_, err := w.ListVolumes(t.Context(), &csi.ListVolumesRequest{StartingToken: token})
		wantCode(t, err, codes.Aborted, "start")
	}
	if n := w.requests().Total; n != 0 {
		t.Errorf("%d requests", n)
	}
}
