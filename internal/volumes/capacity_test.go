package volumes_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
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
	"429 for a long time":              {Before: 429, RetryAfter: time.Hour},
	"500":                              {Before: 500, Body: `{"computeFault":{"code":500}}`},
	"501":                              {Before: 501},
	"502 of a proxy":                   {Before: 502, Body: `<html><head><title>502 Bad Gateway</title></head></html>`},
	"503":                              {Before: 503},
	"an empty answer":                  {Before: 200, Body: " "},
	"null":                             {Before: 200, Body: `null`},
	"an empty object":                  {Before: 200, Body: `{}`},
	"an empty list":                    {Before: 200, Body: `[]`},
	"nulls within":                     {Before: 200, Body: `{"quota_set":null,"pools":null,"volume_types":null,"availabilityZoneInfo":null}`},
	"nothing within":                   {Before: 200, Body: `{"quota_set":{},"pools":[],"volume_types":[],"availabilityZoneInfo":[]}`},
	"a page of HTML":                   {Before: 200, Body: `<html><body>Sign in</body></html>`},
	"half a document":                  {Before: 200, Body: `{"quota_set":{"gigabytes":`},
	"a word":                           {Before: 200, Body: `"ok"`},
	"no answer":                        {DropBefore: true},
	"an answer too late":               {Delay: 3 * time.Second},
}

func TestWhatACloudDoesNotTellSetsNoLimitToTheCapacity(t *testing.T) {
	for operation, room := range map[string]int64{"zone.list": quotaGiB, "type.list": quotaGiB, "quota.get": poolGiB, "pool.list": quotaGiB, "service.list": quotaGiB} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			r := overHTTP(t, volumes.Options{})
			for name, fault := range untold {
				fault.Operation = operation
				r.faults(fault)
				service := volumes.New(connect(t, r.cloud.CloudConfFor(state.AdminUser)), volumes.Options{})
				ask := volumes.CapacityRequest{Type: "ssd", Zone: "nova"}
				got, err := service.Capacity(r.within(4*time.Second), ask)
				if err != nil || got != (volumes.Capacity{Available: room, Largest: room}) {
					t.Errorf("%s: got %+v, %v, want %d GiB", name, got, err, room)
				}
				r.faults()
				if again, err := service.Capacity(r.within(20*time.Second), ask); err != nil || again.Available == 0 {
					t.Errorf("after %s: got %+v, %v", name, again, err)
				}
			}
		})
	}
}

func TestACloudThatTellsNothingAtAllHasRoomUnlessItIsDown(t *testing.T) {
	for name, test := range map[string]struct {
		fault, list admin.Fault
		want        error
	}{
		"all is forbidden":               {fault: admin.Fault{Before: http.StatusForbidden}},
		"all is broken but for volumes":  {fault: admin.Fault{Before: http.StatusInternalServerError}},
		"a gateway that publishes none":  {fault: untold["404 of a gateway"]},
		"the cloud is down":              {fault: admin.Fault{Before: http.StatusServiceUnavailable}, list: admin.Fault{Before: http.StatusServiceUnavailable}, want: cloud.ErrUnavailable},
		"the driver may not do anything": {fault: admin.Fault{Before: http.StatusUnauthorized}, list: admin.Fault{Before: http.StatusUnauthorized}, want: cloud.ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := overHTTP(t, volumes.Options{})
			var faults []admin.Fault
			for _, operation := range []string{"zone.list", "type.list", "quota.get", "pool.list"} {
				test.fault.Operation = operation
				faults = append(faults, test.fault)
			}
			if test.want != nil {
				test.list.Operation = "volume.list"
				faults = append(faults, test.list)
			}
			r.faults(faults...)
			for _, ask := range []volumes.CapacityRequest{{}, {Type: "ssd"}, {Zone: "nova"}, {Type: "ssd", Zone: "nova"}} {
				got, err := r.Capacity(r.within(20*time.Second), ask)
				if !errors.Is(err, test.want) || err == nil && got.Available != volumes.Unlimited {
					t.Errorf("%+v: got %+v, %v, want %v", ask, got, err, test.want)
				}
			}
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

func TestAVolumeIsMadeWhereTheCloudDoesNotListZonesOrTypes(t *testing.T) {
	for _, operation := range []string{"zone.list", "type.list"} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			r := overHTTP(t, volumes.Options{})
			for name, fault := range untold {
				refused := fault.Before >= 400 && fault.Before < 500 && fault.Before != 401 && fault.Before != 429
				if !refused && fault.Before != 501 && name != "nothing within" {
					continue // the cloud is in trouble, and is asked again
				}
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
