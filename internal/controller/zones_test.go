package controller_test

import (
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

func inZone(name, label string) *csi.CreateVolumeRequest {
	req := request(name, 1)
	req.AccessibilityRequirements = &csi.TopologyRequirement{
		Requisite: []*csi.Topology{{Segments: map[string]string{zone: label}}},
		Preferred: []*csi.Topology{{Segments: map[string]string{zone: label}}},
	}
	return req
}

func TestALabelTurnsBackIntoTheZoneThatItStandsFor(t *testing.T) {
	w := newWorld(t, devcloud.Instant(), func(c *devcloud.Config, _ *controller.Config) {
		c.Servers = append(c.Servers, devcloud.Server{Name: "five", Zone: "room 1: left"},
			devcloud.Server{Name: "six", Zone: "twin a"}, devcloud.Server{Name: "seven", Zone: "twin:a"})
	})
	w.resetRequests()
	for _, name := range []string{"pvc-1", "pvc-2", "pvc-1"} {
		v := w.create(inZone(name, "room-1-left"))
		if got := v.GetAccessibleTopology()[0].GetSegments()[zone]; got != "room-1-left" {
			t.Errorf("usable in %q", got)
		}
		if got := w.volumesNamed(name); len(got) != 1 || got[0].Zone != "room 1: left" {
			t.Errorf("made %+v", got)
		}
	}
	if got, want := w.spentCreating(3, 2), "type.get:1 volume.create:2 zone.list:1"; got != want {
		t.Errorf("requests %s, want %s", got, want)
	}
	_, err := w.CreateVolume(w.within(time.Minute), inZone("pvc-3", "mars"))
	wantCode(t, err, codes.ResourceExhausted, "mars", "room 1: left")
	_, err = w.CreateVolume(w.within(time.Minute), inZone("pvc-4", "twin-a"))
	wantCode(t, err, codes.InvalidArgument, "twin a, twin:a", "availability")
}

func TestACloudThatFallsBackToItsDefaultZoneDoesNotMisplaceAVolume(t *testing.T) {
	for name, latency := range map[string]devcloud.Latency{"at once": devcloud.Instant(), "while it is made": devcloud.Fast()} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, latency, func(c *devcloud.Config, _ *controller.Config) {
				c.Behaviour = &devcloud.Behaviour{ZoneFallback: true}
				c.Servers = append(c.Servers, devcloud.Server{Name: "five", Zone: "room 1: left"})
			})
			w.resetRequests()
			for range 2 {
				_, err := w.CreateVolume(w.within(time.Minute), inZone("pvc-1", "mars"))
				wantCode(t, err, codes.ResourceExhausted, `"mars"`, `"nova"`)
				if n := len(w.dump().Volumes); n != 0 {
					t.Fatalf("%d volumes are left", n)
				}
			}
			// The scheduler chooses another node then, whose zone is a label.
			v := w.create(inZone("pvc-1", "room-1-left"))
			if got := v.GetAccessibleTopology()[0].GetSegments()[zone]; got != "room-1-left" {
				t.Errorf("usable in %q", got)
			}
			if got := w.volumesNamed("pvc-1"); len(got) != 1 || got[0].Zone != "room 1: left" {
				t.Errorf("made %+v", got)
			}
		})
	}
}

// CSI wants the zones tried in order. A zone of servers alone is none of
// Cinder's, and may come first.
func TestAZoneThatCinderLacksIsPassedOverForTheNext(t *testing.T) {
	for name, fallback := range map[string]bool{"of a cloud that refuses it": false, "of a cloud that has a default": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, devcloud.Instant(), func(c *devcloud.Config, _ *controller.Config) {
				c.Behaviour = &devcloud.Behaviour{ZoneFallback: fallback}
				c.Servers = append(c.Servers, devcloud.Server{Name: "five", Zone: "az 1"}, devcloud.Server{Name: "six", Zone: "az2"})
			})
			w.resetRequests()
			for range 2 {
				v := w.create(among(request("pvc-1", 1), "mars", "venus", "az-1", "az2"))
				if got := v.GetAccessibleTopology()[0].GetSegments()[zone]; got != "az-1" {
					t.Errorf("usable in %q", got)
				}
			}
			if got, want := w.spentCreating(2, 1), "type.get:1 volume.create:1 zone.list:1"; got != want {
				t.Errorf("requests %s, want %s", got, want)
			}
			_, err := w.CreateVolume(w.within(time.Minute), among(request("pvc-2", 1), "mars", "venus"))
			wantCode(t, err, codes.ResourceExhausted, "mars")
			if got := w.volumesNamed("pvc-1"); len(got) != 1 || got[0].Zone != "az 1" {
				t.Errorf("made %+v", got)
			}
		})
	}
}
