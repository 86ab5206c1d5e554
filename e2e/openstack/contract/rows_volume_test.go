package contract

import (
	"fmt"
	"net/http"
	"strings"
)

// volumeRows are about volumes that are made, grown, changed and deleted.
func volumeRows() []row {
	return []row{
		{"a volume is made and deleted", func(p *probe) {
			got := p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "name": "pvc-1", "description": "d", "volume_type": "standard", "availability_zone": "nova", "metadata": {"a": "b"}}}`)
			v := got.text("volume", "id")
			p.passes("volume", v, "creating", "available")
			p.Volume("66", http.MethodGet, "/volumes/"+v, nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
			p.passes("volume", v, "deleting", "gone")
			p.call(v, "volume")
			p.Volume("66", http.MethodGet, "/volumes/"+v, nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
		}},
		{"a volume looks as its microversion has it", func(p *probe) {
			v := p.newVolume("volume", object{"name": "pvc-1"})
			for _, minor := range []string{"", "13", "21", "46", "47", "48", "61", "63", "65", "70"} {
				p.Volume(minor, http.MethodGet, "/volumes/"+v, nil)
			}
		}},
		{"a new volume looks as its microversion has it", func(p *probe) {
			for _, minor := range []string{"", "42", "47", "66", "70"} {
				got := p.Volume(minor, http.MethodPost, "/volumes", `{"volume": {"size": 1}}`)
				p.await("volume", got.text("volume", "id"), "available")
			}
		}},
		{"a volume in the other zone", func(p *probe) {
			got := p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "availability_zone": "az2", "volume_type": "standard"}}`)
			p.passes("volume", got.text("volume", "id"), "creating", "available")
			p.Volume("66", http.MethodGet, "/volumes/"+got.text("volume", "id"), nil)
		}},
		{"a multiattach volume", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "multiattach"})
			p.Volume("66", http.MethodGet, "/volumes/"+v, nil)
		}},
		{"a volume that nothing can make ends in error, and says why", func(p *probe) {
			got := p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "volume_type": "nobackend"}}`)
			v := got.text("volume", "id")
			p.call(v, "volume")
			p.passes("volume", v, "creating", "error")
			p.Volume("66", http.MethodGet, "/volumes/"+v, nil)
			p.Volume("66", http.MethodGet, "/messages?resource_uuid="+v+"&sort=created_at:desc", nil)
			p.Volume("3", http.MethodGet, "/messages?resource_uuid=nothing", nil, "messages")
			p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
			p.note("volume: %s", p.state("volume", v)) // at once: no host has it
		}},
		{"two volumes may have one name", func(p *probe) {
			p.newVolume("first", object{"name": "pvc-x"})
			p.nextSecond() // or they have no order
			p.newVolume("second", object{"name": "pvc-x"})
			got := p.volume("66", http.MethodGet, "/volumes/detail?name=pvc-x", nil)
			for _, v := range got.list("volumes") {
				p.note("%v %v", v["id"], v["name"])
			}
		}},
		{"a volume grows", func(p *probe) {
			v := p.newVolume("volume", nil)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-extend": {"new_size": 2}}`)
			p.passes("volume", v, "extending", "available")
			p.note("size %s", p.volume("66", http.MethodGet, "/volumes/"+v, nil).text("volume", "size"))
		}},
		{"a volume in use grows", func(p *probe) {
			v := p.newVolume("volume", nil)
			p.attach(p.servers["node1"], v, "in-use/1")
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-extend": {"new_size": 2}}`)
			p.passes("volume", v, "extending/1", "in-use/1")
			p.note("size %s", p.volume("66", http.MethodGet, "/volumes/"+v, nil).text("volume", "size"))
		}},
		{"metadata is set and stays", func(p *probe) {
			v := p.newVolume("volume", object{"metadata": object{"a": "b"}})
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/metadata", `{"metadata": {"x": "y", "a": "c"}}`)
			p.Volume("66", http.MethodGet, "/volumes/"+v+"/metadata", nil)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/metadata", `{"metadata": {}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/metadata", `{"metadata": {"n": 1}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/metadata", `{"metadata": {"": "v"}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/metadata", fmt.Sprintf(`{"metadata": {%q: "v"}}`, strings.Repeat("k", 256)))
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/metadata", fmt.Sprintf(`{"metadata": {"k": %q}}`, strings.Repeat("v", 256)))
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/metadata", `{}`)
			p.Volume("66", http.MethodPost, "/volumes/"+missing+"/metadata", `{"metadata": {"x": "y"}}`)
		}},
		{"a volume changes its type on its back end", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"new_type": "fast", "migration_policy": "never"}}`)
			p.passes("volume", v, "retyping", "available")
			p.note("type %s", p.volume("66", http.MethodGet, "/volumes/"+v, nil).text("volume", "volume_type"))
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"new_type": "fast", "migration_policy": "never"}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"new_type": "nope", "migration_policy": "never"}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"new_type": "standard", "migration_policy": "sometimes"}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"migration_policy": "never"}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+missing+"/action", `{"os-retype": {"new_type": "fast", "migration_policy": "never"}}`)
		}},
		{"a volume that becomes multiattach by its type", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"new_type": "multiattach", "migration_policy": "never"}}`)
			p.passes("volume", v, "retyping", "available")
			got := p.volume("66", http.MethodGet, "/volumes/"+v, nil)
			p.note("type %s, multiattach %s", got.text("volume", "volume_type"), got.text("volume", "multiattach"))
		}},
		{"a volume that would have to move keeps its type", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"new_type": "nfs", "migration_policy": "never"}}`)
			p.passes("volume", v, "retyping", "available")
			p.note("type %s", p.volume("66", http.MethodGet, "/volumes/"+v, nil).text("volume", "volume_type"))
			p.Volume("66", http.MethodGet, "/messages?resource_uuid="+v, nil)
		}},
		{"a volume with snapshots is deleted with them where that is asked for", func(p *probe) {
			v := p.newVolume("volume", nil)
			s := p.newCopy("snapshot", "snapshot", v, nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v+"?cascade=true", nil)
			p.passes("volume", v, "deleting", "gone")
			p.note("snapshot: %s", p.state("snapshot", s))
		}},
	}
}

// createRefusals are the volumes that are not made.
func createRefusals() []row {
	long := strings.Repeat("v", 256)
	var rows []row
	for _, c := range []struct{ name, fields string }{
		{"unknown type", `"size": 1, "volume_type": "nope"`},
		{"unknown type by id", `"size": 1, "volume_type": "` + missing + `"`},
		{"unknown zone", `"size": 1, "availability_zone": "mars"`},
		{"size 0", `"size": 0`},
		{"size -1", `"size": -1`},
		{"size x", `"size": "x"`},
		{"size as text", `"size": "1"`},
		{"size 1.5", `"size": 1.5`},
		{"no size", `"name": "x"`},
		{"size null", `"size": null`},
		{"unknown key", `"size": 1, "foo": "x"`},
		{"unknown snapshot", `"size": 1, "snapshot_id": "` + missing + `"`},
		{"snapshot that is no id", `"size": 1, "snapshot_id": "x"`},
		{"unknown source", `"size": 1, "source_volid": "` + missing + `"`},
		{"source that is no id", `"size": 1, "source_volid": "x"`},
		{"unknown backup", `"size": 1, "backup_id": "` + missing + `"`},
		{"backup that is no id", `"size": 1, "backup_id": "x"`},
		{"a long name", `"size": 1, "name": "` + long + `"`},
		{"a long description", `"size": 1, "description": "` + long + `"`},
		{"a long value of metadata", `"size": 1, "metadata": {"k": "` + long + `"}`},
		{"a long key of metadata", `"size": 1, "metadata": {"` + long + `": "v"}`},
		{"metadata of numbers", `"size": 1, "metadata": {"k": 1}`},
		{"metadata that is none", `"size": 1, "metadata": "k"`},
		{"a snapshot and a source", `"size": 1, "snapshot_id": "` + missing + `", "source_volid": "` + missing + `"`},
	} {
		rows = append(rows, row{"no volume is made of " + c.name, func(p *probe) {
			got := p.Volume("66", http.MethodPost, "/volumes", `{"volume": {`+c.fields+`}}`)
			if id := got.text("volume", "id"); id != "" {
				p.await("volume", id, "available")
			}
		}})
	}
	return append(rows,
		row{"a backup is unknown below 3.47", func(p *probe) {
			got := p.Volume("46", http.MethodPost, "/volumes", `{"volume": {"size": 1, "backup_id": "`+missing+`"}}`)
			if id := got.text("volume", "id"); id != "" {
				p.await("volume", id, "available")
			}
		}},
		row{"hints for the scheduler", func(p *probe) {
			v := p.newVolume("volume", nil)
			for _, hint := range []string{`{"same_host": ["` + v + `"]}`, `{"different_host": ["` + v + `"]}`, `{"same_host": ["` + missing + `"]}`, `{"same_host": "` + v + `"}`, `{"same_host": ["x"]}`, `{"foo": 1}`, `"x"`} {
				got := p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": `+hint+`}`)
				if id := got.text("volume", "id"); id != "" {
					p.passes("volume", id, "creating", "available")
				}
			}
		}},
		row{"a volume cannot be cloned elsewhere", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "source_volid": "`+v+`", "availability_zone": "az2"}}`)
			p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "source_volid": "`+v+`", "volume_type": "nfs"}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-extend": {"new_size": 2}}`)
			p.await("volume", v, "available")
			p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "source_volid": "`+v+`"}}`)
		}},
		row{"quotas of volumes", func(p *probe) {
			v := p.newVolume("volume", nil)
			create := func(size int) {
				p.Volume("66", http.MethodPost, "/volumes", fmt.Sprintf(`{"volume": {"size": %d}}`, size))
			}
			limit := func(key string, limit int, do func()) {
				p.quota(p.T, map[string]int{key: limit})
				do()
				p.quota(p.T, map[string]int{key: -1})
			}
			grow := func(size int) {
				p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", fmt.Sprintf(`{"os-extend": {"new_size": %d}}`, size))
			}
			limit("volumes", 1, func() { create(1) })
			limit("gigabytes", 2, func() { create(5); grow(6) })
			limit("per_volume_gigabytes", 3, func() { create(5); grow(6) })
			limit("gigabytes_standard", 1, func() {
				p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 5, "volume_type": "standard"}}`)
			})
			limit("volumes_standard", 0, func() {
				p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "volume_type": "standard"}}`)
			})
		}},
	)
}

// volumeRefusals are what cannot be done to a volume.
func volumeRefusals() []row {
	extend := func(p *probe, minor, v, size string) {
		p.Volume(minor, http.MethodPost, "/volumes/"+v+"/action", `{"os-extend": {"new_size": `+size+`}}`)
	}
	return []row{
		{"a volume does not shrink", func(p *probe) {
			v := p.newVolume("volume", nil)
			for _, size := range []string{"0", "1", "-1", `"2x"`, "null"} {
				extend(p, "66", v, size)
			}
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-extend": {}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-nonsense": {}}`)
			extend(p, "66", missing, "2")
			extend(p, "66", "abc", "2")
		}},
		{"what a volume in use refuses", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			p.attach(p.servers["node1"], v, "in-use/1")
			extend(p, "41", v, "2")
			extend(p, "", v, "2")
			extend(p, "66", v, "1")
			p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v+"?cascade=true", nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v+"?force=true", nil)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"new_type": "multiattach", "migration_policy": "never"}}`)
			p.Volume("66", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`"}}`)
			p.Volume("65", http.MethodPost, "/snapshots", `{"snapshot": {"volume_id": "`+v+`"}}`)
			p.Volume("66", http.MethodPost, "/snapshots", `{"snapshot": {"volume_id": "`+v+`", "force": false}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-detach": {}}`)
		}},
		{"what an application credential cannot make Cinder ask Nova", func(p *probe) {
			v := p.newVolume("volume", nil)
			p.attach(p.servers["node1"], v, "in-use/1")
			record := p.volume("70", http.MethodGet, "/attachments?volume_id="+v, nil).list("attachments")[0]
			who := p.as(p.credential)
			who.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-detach": {}}`)
			who.Volume("66", http.MethodDelete, "/attachments/"+fmt.Sprint(record["id"]), nil)
			p.take(who)
		}},
		{"what each state refuses", func(p *probe) {
			v := p.newVolume("volume", nil)
			for _, state := range []string{"creating", "deleting", "extending", "error", "error_extending", "error_deleting", "reserved", "attaching", "detaching", "backing-up", "restoring-backup", "error_restoring", "retyping", "uploading", "maintenance"} {
				if !p.reset(v, state) {
					continue
				}
				extend(p, "66", v, "2")
				if state != "error" && state != "error_extending" && state != "error_restoring" {
					p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
				}
				p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"new_type": "multiattach", "migration_policy": "never"}}`)
				p.Volume("65", http.MethodPost, "/snapshots", `{"snapshot": {"volume_id": "`+v+`"}}`)
				p.Volume("66", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`"}}`)
				p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "source_volid": "`+v+`"}}`)
				p.Compute("60", http.MethodPost, attachments(p.servers["node1"]), object{"volumeAttachment": object{"volumeId": v}})
				p.clearBut(v)
			}
			p.reset(v, "available")
		}},
		{"a member is no administrator", func(p *probe) {
			v := p.newVolume("volume", nil)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-reset_status": {"status": "error"}}`)
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-force_delete": {}}`)
			p.Volume("66", http.MethodGet, "/os-services", nil)
			p.Volume("66", http.MethodGet, "/scheduler-stats/get_pools?detail=true", nil)
			p.Volume("66", http.MethodGet, "/volumes/detail?all_tenants=1", nil, "links")
			p.Volume("66", http.MethodPost, "/types", `{"volume_type": {"name": "x"}}`)
		}},
	}
}

// reset gives a volume a state, as an administrator can, and reports whether
// Cinder agreed.
func (p *probe) reset(v, state string) bool {
	p.Helper()
	admin := p.as(p.admin)
	got := admin.volume("66", http.MethodPost, "/volumes/"+v+"/action", object{"os-reset_status": object{"status": state}})
	p.write("reset to "+state, got, nil)
	return got.Status == http.StatusAccepted
}

// clearBut deletes what a state that should have refused has let through.
func (p *probe) clearBut(keep string) {
	for _, kind := range []string{"backup", "snapshot", "volume"} {
		for _, item := range p.volume("70", http.MethodGet, "/"+kind+"s/detail", nil).list(kind + "s") {
			id := fmt.Sprint(item["id"])
			if id == keep {
				continue
			}
			for range 200 {
				if p.state(kind, id) != "creating" {
					break
				}
			}
			p.volume("70", http.MethodDelete, "/"+kind+"s/"+id, nil)
			p.await(kind, id, "gone")
		}
	}
}
