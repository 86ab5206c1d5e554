package openstack

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

func TestTheRoomOnAPool(t *testing.T) {
	for name, test := range map[string]struct {
		capabilities string
		free         int64
	}{
		"thick":                     {`"total_capacity_gb": 100, "free_capacity_gb": 60.9`, 60},
		"thick with a reserve":      {`"total_capacity_gb": 100, "free_capacity_gb": 60, "reserved_percentage": 20`, 40},
		"less than the reserve":     {`"total_capacity_gb": 100, "free_capacity_gb": 10, "reserved_percentage": 20`, 0},
		"thin, promised":            {`"total_capacity_gb": 100, "free_capacity_gb": 90, "provisioned_capacity_gb": 150, "max_over_subscription_ratio": "2.0", "thin_provisioning_support": true`, 50},
		"thin, really used up":      {`"total_capacity_gb": 100, "free_capacity_gb": 10, "provisioned_capacity_gb": 20, "max_over_subscription_ratio": 2, "thin_provisioning_support": "True"`, 20},
		"thin, promised too much":   {`"total_capacity_gb": 100, "free_capacity_gb": 90, "provisioned_capacity_gb": 300, "max_over_subscription_ratio": "2.0", "thin_provisioning_support": true`, 0},
		"a ratio by itself":         {`"total_capacity_gb": 100, "free_capacity_gb": 60, "provisioned_capacity_gb": 20, "max_over_subscription_ratio": "auto", "thin_provisioning_support": true`, 60},
		"infinite":                  {`"total_capacity_gb": "infinite", "free_capacity_gb": "infinite"`, -1},
		"unknown":                   {`"total_capacity_gb": "unknown", "free_capacity_gb": "unknown"`, -1},
		"numbers written as text":   {`"total_capacity_gb": "100", "free_capacity_gb": "60"`, 60},
		"a number that is none":     {`"total_capacity_gb": 100, "free_capacity_gb": "NaN"`, -1},
		"a driver that says little": {``, -1},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCloud(t, func(w http.ResponseWriter, req *http.Request) {
				if strings.HasSuffix(req.URL.Path, "/os-services") {
					answer(w, http.StatusOK, `{"services": [{"binary": "cinder-volume", "host": "h@b", "zone": "az1"}]}`)
					return
				}
				answer(w, http.StatusOK, fmt.Sprintf(`{"pools": [{"name": "h@b#p", "capabilities": {"volume_backend_name": "fast"%s}}]}`, prefixed(test.capabilities)))
			})
			pools, err := c.connect(t, Options{}).ListPools(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := []cloud.Pool{{Name: "h@b#p", Backend: "fast", Zone: "az1", FreeGiB: test.free}}
			if diff := cmp.Diff(want, pools); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func prefixed(members string) string {
	if members == "" {
		return ""
	}
	return ", " + members
}

func TestPoolsWithoutTheirZones(t *testing.T) {
	for status, known := range map[int]bool{http.StatusForbidden: true, http.StatusServiceUnavailable: false} {
		c := newTestCloud(t, func(w http.ResponseWriter, req *http.Request) {
			if strings.HasSuffix(req.URL.Path, "/os-services") {
				answer(w, status, `{"forbidden": {"message": "no"}}`)
				return
			}
			answer(w, http.StatusOK, `{"pools": [{"name": "h@b#p"}]}`)
		})
		pools, err := c.connect(t, Options{}).ListPools(t.Context())
		if known != (err == nil) || known && (len(pools) != 1 || pools[0].Zone != "") {
			t.Errorf("%d: %v, %v", status, pools, err)
		}
	}
}

func TestAQuotaIsReadWithItsUsage(t *testing.T) {
	c := newTestCloud(t, says(http.StatusOK, `{"quota_set": {"id": "p", "gigabytes": {"limit": 100, "in_use": 7, "reserved": 3},
		"gigabytes_ssd": {"limit": -1, "in_use": 0, "reserved": 0}, "odd": 5, "volumes": {"in_use": 1}}}`))
	quota, err := c.connect(t, Options{}).Quota(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := cloud.Quota{Lines: map[string]cloud.QuotaLine{"gigabytes": {Limit: 100, Used: 10}, "gigabytes_ssd": {Limit: -1}}}
	if diff := cmp.Diff(want, quota); diff != "" {
		t.Error(diff)
	}
	c = newTestCloud(t, says(http.StatusOK, `{}`))
	if _, err := c.connect(t, Options{}).Quota(t.Context()); !errors.Is(err, cloud.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
