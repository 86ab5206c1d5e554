package contract

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// nextSecond waits until the clock shows another second.
func (p *probe) nextSecond() {
	now := time.Now()
	time.Sleep(now.Truncate(time.Second).Add(time.Second + 5*time.Millisecond).Sub(now))
}

// serverRows are about attaching and detaching.
func serverRows() []row {
	return []row{
		{"a server", func(p *probe) {
			// What a server is made of is nobody's contract here.
			got := p.compute("60", http.MethodGet, "/servers/"+p.servers["node1"], nil)
			for _, key := range []string{"id", "name", "status", "OS-EXT-AZ:availability_zone", "OS-EXT-STS:vm_state", "OS-EXT-STS:task_state", "locked", "tenant_id", "user_id"} {
				p.note("%s: %s", key, got.text("server", key))
			}
			p.Compute("60", http.MethodGet, "/servers/"+missing, nil)
			p.Compute("60", http.MethodGet, "/servers/x", nil)
		}},
		{"a volume is attached and detached", func(p *probe) {
			v := p.newVolume("volume", nil)
			server := p.servers["node1"]
			p.Compute("60", http.MethodGet, attachments(server), nil)
			p.Compute("60", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": v}})
			p.passes("volume", v, "reserved", "attaching", "in-use/1")
			p.Volume("66", http.MethodGet, "/volumes/"+v, nil)
			for _, minor := range []string{"", "60", "70", "79", "89", "93"} {
				p.Compute(minor, http.MethodGet, attachments(server), nil)
				p.Compute(minor, http.MethodGet, attachments(server)+"/"+v, nil)
			}
			p.Compute("60", http.MethodDelete, attachments(server)+"/"+v, nil)
			p.passes("volume", v, "detaching/1", "available")
			p.unlisted(server, v)
			p.Compute("60", http.MethodGet, attachments(server), nil)
			p.Compute("60", http.MethodGet, attachments(server)+"/"+v, nil)
			p.Compute("60", http.MethodDelete, attachments(server)+"/"+v, nil)
		}},
		{"an attachment looks as its microversion has it", func(p *probe) {
			server := p.servers["node1"]
			for _, minor := range []string{"", "49", "70", "79", "93"} {
				v := p.newVolume("volume at "+minor, nil)
				p.Compute(minor, http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": v}}, "device")
				p.await("volume", v, "in-use/1")
			}
		}},
		{"a multiattach volume is attached to two servers", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "multiattach"})
			one, two := p.servers["node1"], p.servers["node2"]
			p.Compute("59", http.MethodPost, attachments(one), object{"volumeAttachment": object{"volumeId": v}})
			p.Compute("60", http.MethodPost, attachments(one), object{"volumeAttachment": object{"volumeId": v}})
			p.passes("volume", v, "reserved", "attaching", "in-use/1")
			p.Compute("60", http.MethodPost, attachments(one), object{"volumeAttachment": object{"volumeId": v}})
			p.Compute("60", http.MethodPost, attachments(two), object{"volumeAttachment": object{"volumeId": v}})
			p.passes("volume", v, "reserved/1", "attaching/1", "in-use/2")
			p.Compute("60", http.MethodDelete, attachments(one)+"/"+v, nil)
			p.passes("volume", v, "detaching/2", "in-use/1")
			p.Compute("60", http.MethodDelete, attachments(two)+"/"+v, nil)
			p.passes("volume", v, "detaching/1", "available")
		}},
		{"a server in the other zone", func(p *probe) {
			v := p.newVolume("volume", nil)
			p.Compute("60", http.MethodPost, attachments(p.servers["node3"]), object{"volumeAttachment": object{"volumeId": v}})
			p.passes("volume", v, "reserved", "attaching", "in-use/1")
		}},
		{"an action tells how an attachment ended", func(p *probe) {
			v := p.newVolume("volume", nil)
			server := p.servers["node2"]
			got := p.compute("60", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": v}})
			request := got.Header.Get("X-Openstack-Request-Id")
			p.await("volume", v, "in-use/1")
			p.Compute("60", http.MethodGet, "/servers/"+server+"/os-instance-actions/"+request, nil, "events")
		}},
		{"the volumes of a deleted server are free again", func(p *probe) {
			server := p.boot("short")
			v := p.newVolume("volume", nil)
			p.attach(server, v, "in-use/1")
			p.Compute("60", http.MethodDelete, "/servers/"+server, nil)
			p.await("volume", v, "available")
			p.gone(server) // for a moment it is still told, with the vm_state deleted
			p.Compute("60", http.MethodGet, "/servers/"+server, nil)
			p.Compute("60", http.MethodGet, attachments(server), nil)
			p.Compute("60", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": v}})
			p.Compute("60", http.MethodDelete, attachments(server)+"/"+v, nil)
		}},
	}
}

// unlisted waits until Nova lists a volume no more, which may be a moment after
// Cinder has released it.
func (p *probe) unlisted(server, volume string) {
	p.Helper()
	for deadline := time.Now().Add(patience); p.compute("60", http.MethodGet, attachments(server)+"/"+volume, nil).Status != http.StatusNotFound; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Fatalf("%s: Nova still lists volume %s", p.name, volume)
		}
	}
}

// boot makes a server of the member.
func (p *probe) boot(name string) string { return p.bootIn(name, "nova") }

// bootIn makes a server of the member in a zone.
func (p *probe) bootIn(name, zone string) string {
	p.Helper()
	got := p.compute("93", http.MethodPost, "/servers", object{"server": object{"name": name, "availability_zone": zone, "imageRef": p.image, "flavorRef": p.flavor, "networks": "none"}})
	id := got.text("server", "id")
	if id == "" {
		p.Fatalf("%s: boot a server: %d %s", p.name, got.Status, got.Text)
	}
	p.call(id, name)
	for deadline := time.Now().Add(patience); p.compute("60", http.MethodGet, "/servers/"+id, nil).text("server", "status") != "ACTIVE"; {
		if time.Now().After(deadline) {
			p.Fatalf("%s: server %s does not become active", p.name, name)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return id
}

// attachRefusals are the attachments that are not made, and not ended.
func attachRefusals() []row {
	attach := func(p *probe, server, volume string) {
		p.Compute("60", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": volume}})
	}
	detach := func(p *probe, server, volume string) {
		p.Compute("60", http.MethodDelete, attachments(server)+"/"+volume, nil)
	}
	return []row{
		{"a volume that is attached is not attached again", func(p *probe) {
			v := p.newVolume("volume", nil)
			p.attach(p.servers["node1"], v, "in-use/1")
			attach(p, p.servers["node1"], v)
			attach(p, p.servers["node2"], v)
		}},
		{"what is not there is not attached", func(p *probe) {
			v := p.newVolume("volume", nil)
			attach(p, p.servers["node1"], missing)
			attach(p, p.servers["node1"], "not-a-uuid")
			attach(p, missing, v)
			attach(p, "x", v)
			p.Compute("60", http.MethodPost, attachments(p.servers["node1"]), object{"volumeAttachment": object{"volumeId": v, "foo": 1}})
			p.Compute("60", http.MethodPost, attachments(p.servers["node1"]), object{"volumeAttachment": object{"volumeId": v, "device": "nonsense"}})
		}},
		{"what is not attached is not detached", func(p *probe) {
			v := p.newVolume("volume", nil)
			detach(p, p.servers["node1"], v)
			detach(p, p.servers["node1"], missing)
			detach(p, p.servers["node1"], "x")
			detach(p, missing, v)
			p.attach(p.servers["node1"], v, "in-use/1")
			detach(p, p.servers["node2"], v)
			p.Compute("60", http.MethodGet, attachments(p.servers["node2"])+"/"+v, nil)
			p.Compute("60", http.MethodGet, attachments(missing)+"/"+v, nil)
		}},
		{"a volume is not detached in every state", func(p *probe) {
			v := p.newVolume("volume", nil)
			server := p.servers["node1"]
			p.attach(server, v, "in-use/1")
			for _, state := range []string{"attaching", "detaching", "reserved", "backing-up", "extending", "error_extending", "error", "retyping"} {
				if !p.reset(v, state) {
					continue
				}
				detach(p, server, v)
				p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-extend": {"new_size": 9}}`)
				p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
			}
			p.reset(v, "in-use")
		}},
		{"a server that is locked, off, or in error", func(p *probe) {
			server := p.boot("special")
			v, w := p.newVolume("volume", nil), p.newVolume("other volume", nil)
			act := func(who *probe, body string) {
				p.note("%s: %d", body, who.compute("60", http.MethodPost, "/servers/"+server+"/action", body).Status)
			}
			act(p, `{"lock": null}`)
			attach(p, server, v)
			act(p, `{"unlock": null}`)
			p.attach(server, v, "in-use/1")
			act(p, `{"lock": null}`)
			detach(p, server, v)
			act(p, `{"unlock": null}`)
			act(p.as(p.admin), `{"os-resetState": {"state": "error"}}`)
			attach(p, server, w)
			detach(p, server, v)
			act(p.as(p.admin), `{"os-resetState": {"state": "active"}}`)
			act(p, `{"os-stop": null}`)
			p.until(server, "SHUTOFF")
			attach(p, server, w)
			p.passes("volume", w, "reserved", "attaching", "in-use/1")
			detach(p, server, v)
			p.passes("volume", v, "detaching/1", "available")
			p.Compute("60", http.MethodDelete, "/servers/"+server, nil)
			p.await("volume", w, "available")
		}},
	}
}

// gone waits until Nova knows a server no more.
func (p *probe) gone(server string) {
	p.Helper()
	for deadline := time.Now().Add(patience); p.compute("60", http.MethodGet, "/servers/"+server, nil).Status != http.StatusNotFound; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Fatalf("%s: server %s is still there", p.name, server)
		}
	}
}

// until waits until a server has a status.
func (p *probe) until(server, status string) {
	p.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if p.compute("60", http.MethodGet, "/servers/"+server, nil).text("server", "status") == status {
			return
		}
	}
	p.Fatalf("%s: server %s does not become %s", p.name, server, status)
}

// operatorRows are what the driver reads about the cloud itself.
func operatorRows() []row {
	return []row{
		{"zones", func(p *probe) {
			got := p.volume("66", http.MethodGet, "/os-availability-zone", nil)
			var zones []string // they have no order
			for _, z := range got.list("availabilityZoneInfo") {
				zones = append(zones, fmt.Sprint(z))
			}
			slices.Sort(zones)
			p.note("zones: %d %v", got.Status, zones)
		}},
		{"types", func(p *probe) {
			for _, query := range []string{"", "?is_public=None", "?is_public=true", "?limit=2", "?bogus=1"} {
				got := p.volume("66", http.MethodGet, "/types"+query, nil)
				var names []string
				for _, kind := range got.list("volume_types") {
					if kind["name"] != "__DEFAULT__" {
						names = append(names, fmt.Sprint(kind["name"]))
					}
				}
				slices.Sort(names) // those of the same second have no order
				if query == "?limit=2" {
					names = []string{fmt.Sprint(len(got.list("volume_types")), " of them, links: ", len(got.list("volume_type_links")))}
				}
				p.note("types%s: %d %v %s", query, got.Status, names, got.text("badRequest", "message"))
				kinds := got.list("volume_types")
				slices.SortFunc(kinds, func(a, b map[string]any) int { return strings.Compare(fmt.Sprint(a["name"]), fmt.Sprint(b["name"])) })
				for _, kind := range kinds {
					if query == "?limit=2" {
						continue
					}
					if kind["name"] == "multiattach" || kind["name"] == "standard" {
						var keys []string
						for key := range kind {
							keys = append(keys, key)
						}
						p.note("%v: %d members, extra_specs %v, is_public %v, public access %v, qos %v, description %v", kind["name"], len(keys), kind["extra_specs"], kind["is_public"], kind["os-volume-type-access:is_public"], kind["qos_specs_id"], kind["description"])
					}
				}
			}
			p.Volume("66", http.MethodGet, "/types/"+missing, nil)
		}},
		{"quotas", func(p *probe) {
			p.quota(p.T, map[string]int{"volumes": 1000, "gigabytes": 10000, "snapshots": 1000, "backups": 1000, "backup_gigabytes": 10000, "per_volume_gigabytes": -1})
			p.newVolume("volume", object{"volume_type": "standard"})
			got := p.volume("66", http.MethodGet, "/os-quota-sets/"+p.member.ProjectID+"?usage=true", nil)
			for _, key := range []string{"volumes", "gigabytes", "snapshots", "backups", "backup_gigabytes", "per_volume_gigabytes", "volumes_standard", "gigabytes_standard", "snapshots_standard", "groups"} {
				p.note("%s: %s", key, got.text("quota_set", key))
			}
			p.Volume("66", http.MethodGet, "/os-quota-sets/"+p.other.ProjectID, nil)
			p.quota(p.T, map[string]int{"volumes": -1, "gigabytes": -1, "snapshots": -1, "backups": -1, "backup_gigabytes": -1})
		}},
		{"pools and services, for the administrator", func(p *probe) {
			admin := p.as(p.admin)
			got := admin.volume("66", http.MethodGet, "/scheduler-stats/get_pools?detail=true", nil)
			p.note("pools: %d, some %t", got.Status, len(got.list("pools")) > 0)
			for _, key := range []string{"volume_backend_name", "total_capacity_gb", "free_capacity_gb", "reserved_percentage"} {
				m, _ := got.list("pools")[0]["capabilities"].(map[string]any)
				p.note("%s: %T", key, m[key])
			}
			got = admin.volume("66", http.MethodGet, "/os-services?binary=cinder-volume", nil)
			zones := map[string]bool{}
			for _, s := range got.list("services") {
				zones[fmt.Sprint(s["zone"])] = true
			}
			p.note("services: %d, zones %v", got.Status, zones)
		}},
	}
}
