package controller_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/controller/controllertest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

func capacityOf(label string, pairs ...string) *csi.GetCapacityRequest {
	req := &csi.GetCapacityRequest{Parameters: make(map[string]string)}
	if label != "" {
		req.AccessibleTopology = &csi.Topology{Segments: map[string]string{zone: label}}
	}
	for i := 0; i < len(pairs); i += 2 {
		req.Parameters[pairs[i]] = pairs[i+1]
	}
	return req
}

func TestCapacityByQuota(t *testing.T) {
	w := newWorld(t, devcloud.Instant(), func(c *devcloud.Config, _ *controller.Config) {
		c.Servers = append(c.Servers, devcloud.Server{Name: "five", Zone: "room 1: left"})
	})
	if err := w.admin.SetQuotas(t.Context(), map[string]int64{"gigabytes": 100, "gigabytes_ssd": 20, "volumes_multiattach": 0, "per_volume_gigabytes": 50}); err != nil {
		t.Fatal(err)
	}
	w.create(request("pvc-1", 7))
	for name, test := range map[string]struct {
		req                *csi.GetCapacityRequest
		available, largest int64
	}{
		"of the project":              {capacityOf(""), 93, 50},
		"of a zone":                   {capacityOf("nova"), 93, 50},
		"of a zone by its label":      {capacityOf("room-1-left"), 93, 50},
		"of a zone that is none":      {capacityOf("mars"), 0, 0},
		"of a type":                   {capacityOf("nova", "type", "ssd"), 20, 20},
		"of a type by its id":         {capacityOf("nova", "Type", w.typeID("ssd")), 20, 20},
		"of a type without volumes":   {capacityOf("", "type", "multiattach"), 0, 0},
		"of a class that has a zone":  {capacityOf("room-1-left", "availability", "room 1: left"), 93, 50},
		"of a class in another zone":  {capacityOf("nova", "availability", "room 1: left"), 0, 0},
		"of an unknown type":          {capacityOf("", "type", "gold"), 93, 50},
		"of a class that is refused":  {capacityOf("", "iops", "5", "blockSize", "big", "type", " ssd "), 20, 20},
		"of a class of the sidecar's": {capacityOf("", "csi.storage.k8s.io/fstype", "xfs"), 93, 50},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := w.GetCapacity(t.Context(), test.req)
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.GetAvailableCapacity(); got != test.available*gib {
				t.Errorf("available %d bytes, want %d GiB", got, test.available)
			}
			if got := resp.GetMaximumVolumeSize().GetValue(); got != test.largest*gib {
				t.Errorf("largest %d bytes, want %d GiB", got, test.largest)
			}
		})
	}
	_, err := w.GetCapacity(t.Context(), &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{
		capability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER),
	}})
	wantCode(t, err, codes.InvalidArgument)
}

func TestCapacityWithoutLimits(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	if err := w.admin.SetQuotas(t.Context(), map[string]int64{"gigabytes": -1, "volumes": -1}); err != nil {
		t.Fatal(err)
	}
	resp, err := w.GetCapacity(t.Context(), capacityOf("nova", "type", "standard"))
	if err != nil || resp.GetAvailableCapacity() < 1<<60 || resp.GetMaximumVolumeSize() != nil {
		t.Errorf("got %v, %v", resp, err)
	}
}

func TestCapacityOfTheBackEndsForAnAdministrator(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	client := connectAs(t, w.cloud.CloudConfFor(state.AdminUser))
	w.Server = controller.New(controller.Config{Source: controllertest.Clouds{"": volumes.New(client, volumes.Options{})}, WithTopology: true})
	w.faults(admin.Fault{Operation: "quota.get", Before: http.StatusForbidden})
	const pool = 10 << 20 // GiB of every back end of the development cloud
	for name, test := range map[string]struct {
		volumeType string
		available  int64
	}{
		"of all":                   {"", 2 * pool},
		"of a back end":            {"ssd", pool},
		"of a type that has none":  {"nobackend", 2 * pool},
		"of the type for several ": {"multiattach", pool},
	} {
		req := capacityOf("nova")
		if test.volumeType != "" {
			req = capacityOf("nova", "type", test.volumeType)
		}
		resp, err := w.GetCapacity(w.within(time.Minute), req)
		if err != nil || resp.GetAvailableCapacity() != test.available*gib || resp.GetMaximumVolumeSize().GetValue() != pool*gib {
			t.Errorf("%s: got %v, %v", name, resp, err)
		}
	}
}

func TestTheBackEndsOfAZoneAreThoseOfItsServices(t *testing.T) {
	w := newWorld(t, devcloud.Instant(), func(c *devcloud.Config, _ *controller.Config) {
		c.Servers = append(c.Servers, devcloud.Server{Name: "five", Zone: "room 1: left"})
	})
	req := inZone("pvc-1", "room-1-left")
	req.CapacityRange.RequiredBytes = 100 * gib
	w.create(req)
	client := connectAs(t, w.cloud.CloudConfFor(state.AdminUser))
	w.Server = controller.New(controller.Config{Source: controllertest.Clouds{"": volumes.New(client, volumes.Options{})}, WithTopology: true})
	w.faults(admin.Fault{Operation: "quota.get", Before: http.StatusForbidden})
	w.resetRequests()
	const pool = 10 << 20
	for label, available := range map[string]int64{"nova": pool, "room-1-left": pool - 100, "mars": 0, "": 2*pool - 100} {
		resp, err := w.GetCapacity(w.within(time.Minute), capacityOf(label, "type", "standard"))
		if err != nil || resp.GetAvailableCapacity() != available*gib {
			t.Errorf("in zone %q: got %v, %v, want %d GiB", label, resp, err, available)
		}
	}
	if got, want := w.spent("quota.get"), "pool.list:1 service.list:1 type.list:1 zone.list:1"; got != want {
		t.Errorf("requests %s, want %s", got, want)
	}
}

func TestARoundOfCapacityQuestionsCostsFewRequests(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	w.resetRequests()
	for range 5 {
		for _, kind := range []string{"standard", "ssd", "multiattach"} {
			if _, err := w.GetCapacity(t.Context(), capacityOf("nova", "type", kind)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, want := w.spent(), "pool.list:1 quota.get:1 type.list:1 zone.list:1"; got != want {
		t.Errorf("requests %s, want %s", got, want)
	}
}
