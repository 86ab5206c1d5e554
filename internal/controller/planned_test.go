package controller_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/gophercloud/gophercloud/v2"
	gopherstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/controller/controllertest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// inZones gives a cloud two zones besides nova, and has the back end of type ssd in
// some of all only.
func inZones(ssd ...string) option {
	return func(c *devcloud.Config, _ *controller.Config) {
		c.Servers = append(c.Servers, devcloud.Server{Name: "five", Zone: "az1"}, devcloud.Server{Name: "six", Zone: "az2"})
		if ssd != nil {
			c.Behaviour = &devcloud.Behaviour{BackendZones: map[string][]string{"flash": ssd}}
		}
	}
}

// addType makes a volume type, as an administrator does.
func (w *world) addType(name string, specs map[string]string) {
	w.Helper()
	ctx := context.WithoutCancel(w.Context())
	accounts, err := w.admin.Accounts(ctx)
	if err != nil {
		w.Fatal(err)
	}
	for _, a := range accounts {
		if a.User != "admin" {
			continue
		}
		provider, err := gopherstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{
			IdentityEndpoint: w.cloud.AuthURL(), Username: a.User, Password: a.Password, DomainName: "Default", TenantID: a.ProjectID,
		})
		if err != nil {
			w.Fatal(err)
		}
		w.Cleanup(provider.HTTPClient.CloseIdleConnections)
		cinder, err := gopherstack.NewBlockStorageV3(provider, gophercloud.EndpointOpts{Region: "RegionOne"})
		if err != nil {
			w.Fatal(err)
		}
		if _, err := volumetypes.Create(ctx, cinder, volumetypes.CreateOpts{Name: name, ExtraSpecs: specs}).Extract(); err != nil {
			w.Fatal(err)
		}
	}
}

// A zone that has no room, or that the type isn't in, is followed by the next; where
// none is left another node is chosen, and nothing is final.
func TestTheNextZoneIsTried(t *testing.T) {
	for name, c := range map[string]struct {
		volumeType string
		zones      []string
		want       string // the zone, or nothing
		tries      int
	}{
		"room in the first":             {"ssd", []string{"az2", "az1"}, "az2", 1},
		"no room in the first":          {"ssd", []string{"az1", "az2"}, "az2", 2},
		"no room in any":                {"ssd", []string{"az1"}, "", 1},
		"the type isn't in the first":   {"far", []string{"az1", "nova", "az2"}, "az2", 1},
		"the type isn't in any":         {"far", []string{"az1", "nova"}, "", 0},
		"a type of zones that are none": {"nowhere", []string{"az1"}, "", 0},
		"without a type":                {"", []string{"az1", "az2"}, "az1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, devcloud.Instant(), inZones("az2"))
			w.addType("far", map[string]string{"volume_backend_name": "file", "RESKEY:availability_zones": "az2"})
			w.addType("nowhere", map[string]string{"volume_backend_name": "file", "RESKEY:availability_zones": "mars,venus"})
			req := among(request("pvc-1", 1), c.zones...)
			req.Parameters = map[string]string{"type": c.volumeType}
			w.resetRequests()
			resp, err := w.CreateVolume(w.within(time.Minute), req)
			if n := w.requests().Operations["volume.create"]; n != int64(c.tries) {
				t.Errorf("%d volumes were asked for, want %d", n, c.tries)
			}
			if c.want == "" {
				wantCode(t, err, codes.ResourceExhausted)
				if n := len(w.dump().Volumes); n != 0 {
					t.Errorf("%d volumes are left", n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.GetVolume().GetAccessibleTopology()[0].GetSegments()[zone]; got != c.want {
				t.Errorf("usable in %s", got)
			}
			if again := w.create(req); again.GetVolumeId() != resp.GetVolume().GetVolumeId() || len(w.dump().Volumes) != 1 {
				t.Error("repeated, it made another volume")
			}
		})
	}
}

// A type may be written as Cinder understands it, wherever one is named.
func TestATypeInEverySpelling(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	w.addType("Gold", map[string]string{"volume_backend_name": "file"})
	for i, name := range []string{"Gold", "gold", "GOLD", "gold ", "g\u00f6ld", w.typeID("Gold")} {
		req := request(fmt.Sprint("pvc-", i), 1)
		req.Parameters = map[string]string{"type": name}
		_, err := w.CreateVolume(w.within(100*time.Millisecond), req)
		if err != nil && !slices.Contains(again, status.Code(err)) {
			t.Fatalf("%q: %v", name, err)
		}
		first, second := w.create(req), w.create(req)
		if first.GetVolumeId() != second.GetVolumeId() || w.typed(req.GetName(), "Gold") != 1 {
			t.Errorf("%q: two volumes, or one of another type", name)
		}
		valid, err := w.ValidateVolumeCapabilities(w.within(time.Minute), &csi.ValidateVolumeCapabilitiesRequest{
			VolumeId: first.GetVolumeId(), VolumeCapabilities: req.GetVolumeCapabilities(), Parameters: req.GetParameters(),
		})
		if err != nil || valid.GetConfirmed() == nil {
			t.Errorf("%q: %v, %v", name, valid, err)
		}
		for range 2 {
			other := w.create(request(fmt.Sprint("other-", i), 1)).GetVolumeId()
			if err := w.modify(other, "type", name); err != nil {
				t.Errorf("a change to %q: %v", name, err)
			}
		}
		req.Parameters["type"] = "ssd"
		_, err = w.CreateVolume(w.within(time.Minute), req)
		wantCode(t, err, codes.AlreadyExists, "type")
	}
}

// Nothing is made for what the type can't do: not by the first call, nor by its
// repetitions.
func TestNothingIsMadeForSeveralNodesOnATypeForOne(t *testing.T) {
	w := newWorld(t, devcloud.Fast())
	w.resetRequests()
	for _, volumeType := range []string{"", "standard", "Standard", w.typeID("standard")} {
		req := request("pvc-1", 1)
		req.VolumeCapabilities = []*csi.VolumeCapability{blockCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)}
		req.Parameters = map[string]string{"type": volumeType}
		for range 2 {
			_, err := w.CreateVolume(w.within(time.Minute), req)
			wantCode(t, err, codes.InvalidArgument, "multiattach")
		}
	}
	if n := w.requests().Operations["volume.create"]; n != 0 {
		t.Errorf("%d volumes were made", n)
	}
}

// second is a controller of its own, as there is for a moment when the leader changes.
func (w *world) second() *controller.Server {
	service := volumes.New(connect(w.T, w.cloud), volumes.Options{Cluster: "test"})
	return controller.New(controller.Config{Source: controllertest.Clouds{"": service}, WithTopology: true})
}

// The first POST takes effect late: when its caller has given up, and has repeated the
// call with this controller or with another one.
func TestALatePOSTLeavesOneVolume(t *testing.T) {
	for name, fault := range map[string]admin.Fault{
		"it is delayed":      {Delay: 700 * time.Millisecond},
		"its answer is lost": {Drop: true},
		"both":               {Delay: 700 * time.Millisecond, Drop: true},
		"500 after it":       {After: http.StatusInternalServerError},
	} {
		fault.Operation, fault.Times = "volume.create", 1
		for _, leaders := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d controllers", name, leaders), func(t *testing.T) {
				model := devcloud.Fast()
				model.Steps = maps.Clone(model.Steps)
				model.Steps["volume.creating"] = latency.Distribution{Min: 900 * time.Millisecond, Median: 900 * time.Millisecond, P99: 900 * time.Millisecond}
				w := newWorld(t, model)
				w.create(request("warm-up", 1))
				w.faults(fault)
				_, err := w.CreateVolume(w.within(150*time.Millisecond), request("pvc-1", 1))
				if err == nil || !slices.Contains(again, status.Code(err)) {
					t.Fatalf("got %v", err)
				}
				servers := []*controller.Server{w.Server, w.second()}[:leaders]
				told := make([]string, leaders)
				var group sync.WaitGroup
				for i, s := range servers {
					group.Go(func() {
						for range 20 {
							resp, err := s.CreateVolume(w.within(time.Minute), request("pvc-1", 1))
							if told[i] = resp.GetVolume().GetVolumeId(); err == nil {
								return
							}
							time.Sleep(100 * time.Millisecond)
						}
					})
				}
				group.Wait()
				time.Sleep(time.Second)
				last := w.create(request("pvc-1", 1)).GetVolumeId()
				for _, id := range told {
					if id != last {
						t.Errorf("%s was told, and %s at last", id, last)
					}
				}
				if n := len(w.volumesNamed("pvc-1")); n != 1 {
					t.Errorf("%d volumes", n)
				}
			})
		}
	}
}

// Of several snapshots or backups of one name the oldest is the answer, and one that is
// being deleted is none.
func TestOfSeveralCopiesOfOneNameTheOldestIsUsed(t *testing.T) {
	for _, kind := range []string{"snapshot", "backup"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, devcloud.Instant())
			source := w.create(request("source", 1)).GetVolumeId()
			req := &csi.CreateSnapshotRequest{Name: "copy", SourceVolumeId: source, Parameters: map[string]string{"type": kind}}
			snap := func() string {
				for {
					resp, err := w.CreateSnapshot(w.within(time.Minute), req)
					if err != nil {
						t.Fatal(err)
					}
					if resp.GetSnapshot().GetReadyToUse() {
						return resp.GetSnapshot().GetSnapshotId()
					}
					time.Sleep(20 * time.Millisecond)
				}
			}
			oldest := snap()
			// What another controller has made at the same time.
			w.faults(admin.Fault{Operation: kind + ".list", Times: 1, Before: http.StatusOK, Body: `{"` + kind + `s": []}`})
			time.Sleep(1100 * time.Millisecond)
			snap()
			w.faults()
			// A younger backup keeps its temporary snapshot until it is deleted.
			if want := map[string]int{"snapshot": 2, "backup": 3}[kind]; w.copies("copy") != want {
				t.Fatalf("%d copies, want %d", w.copies("copy"), want)
			}
			for range 2 {
				if got := snap(); got != oldest {
					t.Errorf("%s is used, the oldest is %s", got, oldest)
				}
			}
		})
	}
}

// A creation of which no host has heard is made anew when it has lasted for long, and
// one that a host has is waited for. Neither keeps its worker.
func TestACreationThatIsLostIsMadeAnew(t *testing.T) {
	for step, lost := range map[string]bool{"volume.scheduling": true, "volume.creating": false} {
		t.Run(step, func(t *testing.T) {
			model := devcloud.Fast()
			model.Steps = maps.Clone(model.Steps)
			model.Steps[step] = latency.Distribution{Min: time.Hour, Median: time.Hour, P99: time.Hour}
			w := newWorld(t, model)
			service := volumes.New(connect(t, w.cloud), volumes.Options{Cluster: "test", CreateWait: 2 * time.Second, LostAfter: 5 * time.Second})
			w.Server = controller.New(controller.Config{Source: controllertest.Clouds{"": service}})
			begun := time.Now()
			_, err := w.CreateVolume(w.within(time.Minute), request("pvc-1", 1))
			wantCode(t, err, codes.Aborted, "creating", "after it was asked for")
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("the worker was kept for %v", took)
			}
			first := w.volumesNamed("pvc-1")[0].ID
			time.Sleep(4 * time.Second)
			if err := w.admin.SetLatency(t.Context(), devcloud.Fast()); err != nil {
				t.Fatal(err)
			}
			resp, err := w.CreateVolume(w.within(time.Minute), request("pvc-1", 1))
			if !lost {
				wantCode(t, err, codes.Aborted, "creating", first)
			} else if err != nil || resp.GetVolume().GetVolumeId() == first {
				t.Errorf("got %v, %v", resp, err)
			}
			if n := len(w.volumesNamed("pvc-1")); n != 1 {
				t.Errorf("%d volumes", n)
			}
		})
	}
}
