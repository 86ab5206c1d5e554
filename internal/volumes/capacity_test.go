package volumes_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

const (
	// quotaGiB is what the quota of an administrator's project leaves, poolGiB what a
	// back end does.
	quotaGiB = 10_000_000
	poolGiB  = 10 << 20
)

// untold are the answers of clouds that don't tell something.
var untold = map[string]admin.Fault{
	"400 for a parameter of the query": {Before: 400, Body: `{"badRequest":{"code":400,"message":"Additional query parameters are not allowed ('usage', 'detail', 'is_public' was unexpected)"}}`},
	"401 here alone":                   {Before: 401, Body: `{"error":{"code":401,"title":"Unauthorized"}}`},
	"403 of a policy":                  {Before: 403, Body: `{"forbidden":{"code":403,"message":"Policy doesn't allow that to be performed."}}`},
	"403 of a firewall":                {Before: 403, Body: `<html><head><title>403 Forbidden</title></head></html>`},
	"404 of Cinder":                    {Before: 404, Body: `{"itemNotFound":{"code":404,"message":"The resource could not be found."}}`},
	"404 of a gateway":                 {Before: 404, Body: `{"error_msg":"The API does not exist or has not been published in the environment","error_code":"APIGW.0101"}`},
	"405":                              {Before: 405},
	"406":                              {Before: 406},
	"410":                              {Before: 410},
	"501":                              {Before: 501},
	"an empty answer":                  {Before: 200, Body: " "},
	"null":                             {Before: 200, Body: `null`},
	"an empty object":                  {Before: 200, Body: `{}`},
	"an empty list":                    {Before: 200, Body: `[]`},
	"nulls within":                     {Before: 200, Body: `{"quota_set":null,"pools":null,"volume_types":null,"availabilityZoneInfo":null}`},
	"nothing within":                   {Before: 200, Body: `{"quota_set":{},"pools":[],"volume_types":[],"availabilityZoneInfo":[]}`},
	"a page of HTML":                   {Before: 200, Body: `<html><body>Sign in</body></html>`},
	"half a document":                  {Before: 200, Body: `{"quota_set":{"gigabytes":`},
	"a word":                           {Before: 200, Body: `"ok"`},
}

// silent are those of clouds in trouble.
var silent = map[string]admin.Fault{
	"429 for a long time": {Before: 429, RetryAfter: time.Hour},
	"500":                 {Before: 500, Body: `{"computeFault":{"code":500}}`},
	"502 of a proxy":      {Before: 502, Body: `<html><head><title>502 Bad Gateway</title></head></html>`},
	"503":                 {Before: 503},
	"no answer":           {DropBefore: true},
	"an answer too late":  {Delay: 3 * time.Second},
}

// questions are the operations that ask for the capacity, with what there is room for
// without an answer to one of them. service.list only completes the pools.
var questions = map[string]int64{"zone.list": quotaGiB, "type.list": quotaGiB, "quota.get": poolGiB, "pool.list": quotaGiB, "service.list": quotaGiB}

func TestWhatACloudDoesNotTellSetsNoLimitToTheCapacity(t *testing.T) {
	for operation, room := range questions {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			r := overHTTP(t, volumes.Options{})
			ask := volumes.CapacityRequest{Type: "ssd", Zone: "nova"}
			for name, fault := range untold {
				fault.Operation = operation
				r.faults(fault)
				service := volumes.New(connect(t, r.cloud.CloudConfFor(state.AdminUser)), volumes.Options{})
				got, err := service.Capacity(r.within(20*time.Second), ask)
				if err != nil || got != (volumes.Capacity{Available: room, Largest: room}) {
					t.Errorf("%s: got %+v, %v, want %d GiB", name, got, err, room)
				}
			}
			for name, fault := range silent {
				fault.Operation = operation
				r.faults(fault)
				service := volumes.New(connect(t, r.cloud.CloudConfFor(state.AdminUser)), volumes.Options{})
				if got, err := service.Capacity(r.within(4*time.Second), ask); err == nil {
					t.Errorf("%s: got %+v, and the cloud is in trouble", name, got)
				}
				r.faults()
				if again, err := service.Capacity(r.within(20*time.Second), ask); err != nil || again.Available != quotaGiB {
					t.Errorf("after %s: got %+v, %v", name, again, err)
				}
			}
		})
	}
}

func TestACloudThatTellsNothingAtAllHasRoom(t *testing.T) {
	for _, name := range []string{"401 here alone", "403 of a policy", "404 of a gateway", "405", "501", "a page of HTML"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := overHTTP(t, volumes.Options{})
			var faults []admin.Fault
			for operation := range questions {
				fault := untold[name]
				fault.Operation = operation
				faults = append(faults, fault)
			}
			r.faults(faults...)
			for _, ask := range []volumes.CapacityRequest{{}, {Type: "ssd"}, {Zone: "nova"}, {Type: "ssd", Zone: "nova"}} {
				got, err := r.Capacity(r.within(20*time.Second), ask)
				if err != nil || got.Available != volumes.Unlimited {
					t.Errorf("%+v: got %+v, %v", ask, got, err)
				}
			}
		})
	}
}

// A path that is broken for good is one that does not tell. A cloud that is down is not.
func TestWhatHasNoAnswerForAMinuteSetsNoLimitUnlessTheCloudIsDown(t *testing.T) {
	for operation := range questions {
		if operation == "service.list" {
			continue // this cloud has no pools
		}
		t.Run(operation, func(t *testing.T) {
			in(t, func(w *world) {
				ask := volumes.CapacityRequest{Type: "default", Zone: "nova"}
				want := func(want error) {
					t.Helper()
					got, err := w.service.Capacity(w.within(10*time.Second), ask)
					if !errors.Is(err, want) || err == nil && got.Available != volumes.Unlimited {
						t.Errorf("got %+v, %v, want %v", got, err, want)
					}
				}
				for range 2 {
					w.cloud.SetFault(cloudtest.Fault{Op: operation, Err: cloud.ErrUnavailable})
					want(cloud.ErrUnavailable)
					time.Sleep(50 * time.Second)
					want(cloud.ErrUnavailable)
					time.Sleep(10 * time.Second)
					want(nil)
					w.cloud.SetFault(cloudtest.Fault{Op: "volume.list", Err: cloud.ErrUnavailable})
					want(cloud.ErrUnavailable)
					w.cloud.ClearFaults()
					want(nil) // and begins anew
				}
			})
		})
	}
}

func TestATypeThatIsInNoListIsTrusted(t *testing.T) {
	r := overHTTP(t, volumes.Options{})
	if err := r.admin.SetQuotas(t.Context(), map[string]int64{"gigabytes": 7}); err != nil {
		t.Fatal(err)
	}
	got, err := r.Capacity(t.Context(), volumes.CapacityRequest{Type: "private", Zone: "nova"})
	if err != nil || got.Available != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A type may name its back end by an expression of the scheduler's (cinder/scheduler/filters,
// extra_specs_ops.py): the driver does not work these out.
func TestABackEndThatIsAnExpressionSetsNoLimit(t *testing.T) {
	r := overHTTP(t, volumes.Options{})
	for spec, want := range map[string]int64{
		"<in> ssd": quotaGiB, "s== ssd": quotaGiB, "<or> ssd <or> hdd": quotaGiB, "s!= hdd": quotaGiB, "ssd": quotaGiB, "nvme": 0, "ssd of old": 0,
	} {
		r.faults(admin.Fault{Operation: "type.list", Before: 200, Body: `{"volume_types": [{"id": "a", "name": "fast", "extra_specs": {"volume_backend_name": "` + spec + `"}}]}`},
			admin.Fault{Operation: "pool.list", Before: 200, Body: `{"pools": [{"name": "h@b#p", "capabilities": {"volume_backend_name": "ssd"}}]}`})
		service := volumes.New(connect(t, r.cloud.CloudConfFor(state.AdminUser)), volumes.Options{})
		if got, err := service.Capacity(r.within(20*time.Second), volumes.CapacityRequest{Type: "fast"}); err != nil || got.Available != want {
			t.Errorf("%s: got %+v, %v, want %d GiB", spec, got, err, want)
		}
	}
}

func TestAVolumeIsMadeWhereTheCloudDoesNotListZonesOrTypes(t *testing.T) {
	for _, operation := range []string{"zone.list", "type.list"} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			r := overHTTP(t, volumes.Options{})
			for name, fault := range untold {
				fault.Operation = operation
				r.faults(fault)
				service := volumes.New(connect(t, r.cloud.CloudConf()), volumes.Options{Cluster: cluster})
				v, err := service.Create(r.within(time.Minute), volumes.CreateRequest{Name: name, SizeGiB: 1, Type: "ssd", Zone: "nova"})
				if err != nil || v.Type != "ssd" || v.Zone != "nova" {
					t.Errorf("%s: got %+v, %v", name, v, err)
				}
			}
		})
	}
}
