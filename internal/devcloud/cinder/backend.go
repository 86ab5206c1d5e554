package cinder

import (
	"slices"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// poolGiB is the size that every pool pretends to have.
const poolGiB = 10 << 20

// pools lists the pools of the back ends.
func (s *Service) pools(r *request) (*rest.Response, error) {
	pools := []rest.Object{}
	for _, b := range s.cloud.Backends() {
		pool := rest.Object{"name": b.Host + "#" + b.Name}
		if truth(r.URL.Query().Get("detail")) {
			pool["capabilities"] = rest.Object{
				"volume_backend_name": b.Name, "vendor_name": "devcloud", "driver_version": "1.0", "storage_protocol": "file",
				"total_capacity_gb": poolGiB, "free_capacity_gb": poolGiB - b.Used, "allocated_capacity_gb": b.Used, "provisioned_capacity_gb": b.Used,
				"reserved_percentage": 0, "max_over_subscription_ratio": "1.0", "thin_provisioning_support": true,
				"thick_provisioning_support": false, "multiattach": true, "QoS_support": false, "timestamp": rest.Micros(time.Now()),
			}
		}
		pools = append(pools, pool)
	}
	slices.SortFunc(pools, func(a, b rest.Object) int { return strings.Compare(a["name"].(string), b["name"].(string)) })
	return ok(rest.Object{"pools": pools})
}

// services lists what Cinder consists of, one by one.
func (s *Service) services(r *request) (*rest.Response, error) {
	query := r.URL.Query()
	services := []rest.Object{}
	add := func(binary, host, zone string) {
		if want := query.Get("binary"); want != "" && want != binary {
			return
		}
		if want := query.Get("host"); want != "" && want != host {
			return
		}
		service := rest.Object{
			"binary": binary, "host": host, "zone": zone, "status": "enabled", "state": "up", "updated_at": rest.Micros(time.Now()), "disabled_reason": nil,
		}
		if r.version.AtLeast(7) {
			service["cluster"] = nil
		}
		if binary == "cinder-volume" {
			service["replication_status"], service["frozen"] = "disabled", false
			if r.version.AtLeast(49) {
				service["backend_state"] = "up"
			}
		}
		services = append(services, service)
	}
	add("cinder-scheduler", "devcloud", "nova")
	add("cinder-backup", "devcloud", "nova")
	for _, b := range s.cloud.Backends() {
		add("cinder-volume", b.Host, b.Zone)
	}
	return ok(rest.Object{"services": services})
}
