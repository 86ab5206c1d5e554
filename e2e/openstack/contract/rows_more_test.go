package contract

import (
	"fmt"
	"net/http"
	"slices"
)

// stateRows are about what the state of a thing, or of a server, refuses.
func stateRows() []row {
	return []row{
		{"what each state of a snapshot refuses", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			s := p.newCopy("snapshot", "snapshot", v, nil)
			for _, state := range []string{"creating", "deleting", "error", "error_deleting", "available"} {
				if !p.resetCopy("snapshot", s, state) || state == "available" {
					continue
				}
				p.Volume("66", http.MethodGet, "/snapshots/"+s, nil)
				p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "snapshot_id": "`+s+`"}}`)
				p.Volume("66", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`", "snapshot_id": "`+s+`"}}`)
				if state == "creating" || state == "deleting" {
					p.Volume("66", http.MethodDelete, "/snapshots/"+s, nil)
				}
				p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
			}
		}},
		{"what a backup that failed refuses", func(p *probe) {
			v := p.newVolume("volume", nil)
			b := p.newCopy("backup", "backup", v, nil)
			if p.resetCopy("backup", b, "error") {
				p.await("backup", b, "error")
				p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "backup_id": "`+b+`"}}`)
				p.Volume("66", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`", "incremental": true}}`)
				p.Volume("66", http.MethodDelete, "/backups/"+b, nil)
				p.passes("backup", b, "deleting", "gone")
			}
		}},
		{"metadata is set in every state but one", func(p *probe) {
			v := p.newVolume("volume", nil)
			for _, state := range []string{"creating", "deleting", "extending", "error", "reserved", "maintenance"} {
				if p.reset(v, state) {
					p.Volume("66", http.MethodPost, "/volumes/"+v+"/metadata", `{"metadata": {"state": "`+state+`"}}`)
				}
			}
			p.reset(v, "available")
		}},
		{"a server that is paused, or suspended", func(p *probe) {
			server := p.boot("asleep")
			v, w := p.newVolume("volume", nil), p.newVolume("other volume", nil)
			act := func(name, status string) {
				p.note("%s: %d", name, p.compute("60", http.MethodPost, "/servers/"+server+"/action", object{name: nil}).Status)
				p.until(server, status)
			}
			p.attach(server, v, "in-use/1")
			act("pause", "PAUSED")
			p.Compute("60", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": w}}, "device")
			p.passes("volume", w, "reserved", "attaching", "in-use/1")
			p.Compute("60", http.MethodDelete, attachments(server)+"/"+w, nil)
			p.passes("volume", w, "detaching/1", "available")
			act("unpause", "ACTIVE")
			act("suspend", "SUSPENDED")
			p.Compute("60", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": w}})
			p.Compute("60", http.MethodDelete, attachments(server)+"/"+v, nil)
			act("resume", "ACTIVE")
			p.Compute("60", http.MethodDelete, "/servers/"+server, nil)
			p.await("volume", v, "available")
		}},
		{"a server that has as many disks as it may", func(p *probe) {
			const most = 5 // its root disk counted
			server := p.servers["node3"]
			p.disks(most)
			defer p.disks(0)
			for i := range most {
				v := p.newVolume(fmt.Sprintf("volume %d", i), nil)
				if i < most-1 {
					p.attach(server, v, "in-use/1")
					continue
				}
				p.Compute("60", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": v}})
				p.note("volume: %s", p.state("volume", v))
			}
		}},
	}
}

// retypeRows are about changes of type that the driver may ask for.
func retypeRows() []row {
	retype := func(p *probe, v, kind, policy string) {
		p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"new_type": "`+kind+`", "migration_policy": "`+policy+`"}}`)
	}
	has := func(p *probe, v string) {
		got := p.volume("66", http.MethodGet, "/volumes/"+v, nil)
		p.note("type %s, multiattach %s", got.text("volume", "volume_type"), got.text("volume", "multiattach"))
	}
	return []row{
		{"a volume in use changes its type on its back end", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			p.attach(p.servers["node1"], v, "in-use/1")
			retype(p, v, "fast", "never")
			p.passes("volume", v, "retyping/1", "in-use/1")
			has(p, v)
		}},
		{"a volume that may move, and need not", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			retype(p, v, "fast", "on-demand")
			p.passes("volume", v, "retyping", "available")
			has(p, v)
		}},
		{"a volume that may move, and has a snapshot", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			p.newCopy("snapshot", "snapshot", v, nil)
			retype(p, v, "nfs", "on-demand")
			p.passes("volume", v, "retyping", "available")
			has(p, v)
			p.Volume("66", http.MethodGet, "/messages?resource_uuid="+v, nil)
		}},
		{"a type that has no back end", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			retype(p, v, "nobackend", "never")
			p.passes("volume", v, "retyping", "available")
			has(p, v)
			p.Volume("66", http.MethodGet, "/messages?resource_uuid="+v, nil)
		}},
		{"the quota of a type that a volume is to have", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			for _, key := range []string{"volumes_fast", "gigabytes_fast"} {
				p.quota(p.T, map[string]int{key: 0})
				retype(p, v, "fast", "never")
				p.quota(p.T, map[string]int{key: -1})
			}
			has(p, v)
		}},
	}
}

// zoneRows are about copies and zones.
func zoneRows() []row {
	return []row{
		{"a backup is restored into the other zone", func(p *probe) {
			v := p.newVolume("volume", nil)
			b := p.newCopy("backup", "backup", v, nil)
			got := p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "backup_id": "`+b+`", "availability_zone": "az2"}}`)
			p.passes("volume", got.text("volume", "id"), "creating", "available")
			p.Volume("66", http.MethodGet, "/volumes/"+got.text("volume", "id"), nil)
		}},
		{"a backup in a zone of its own", func(p *probe) {
			v := p.newVolume("volume", nil)
			got := p.Volume("66", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`", "availability_zone": "nova"}}`)
			p.passes("backup", got.text("backup", "id"), "creating", "available")
			p.Volume("66", http.MethodGet, "/backups/"+got.text("backup", "id"), nil, free()...)
		}},
	}
}

// recordRows are about attachments that Cinder has on record and Nova hasn't.
func recordRows() []row {
	reserve := func(p *probe, v, server string) string {
		got := p.volume("66", http.MethodPost, "/attachments", object{"attachment": object{"volume_uuid": v, "instance_uuid": server}})
		id := got.text("attachment", "id")
		p.call(id, "attachment")
		p.note("reserve: %d, volume %s", got.Status, p.state("volume", v))
		return id
	}
	rows := []row{
		{"a volume that is reserved for a server that does not know it", func(p *probe) {
			v := p.newVolume("volume", nil)
			a := reserve(p, v, p.servers["node1"])
			p.Volume("66", http.MethodGet, "/attachments?volume_id="+v, nil)
			p.Volume("66", http.MethodGet, "/attachments/"+a, nil)
			p.Volume("66", http.MethodGet, "/volumes/"+v, nil)
			p.Compute("60", http.MethodGet, attachments(p.servers["node1"]), nil)
			p.Compute("60", http.MethodPost, attachments(p.servers["node2"]), object{"volumeAttachment": object{"volumeId": v}})
			p.Compute("60", http.MethodDelete, attachments(p.servers["node1"])+"/"+v, nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
			p.Volume("66", http.MethodDelete, "/attachments/"+a, nil)
			p.await("volume", v, "available")
		}},
		{"a volume is attached to the server that it is reserved for", func(p *probe) {
			v := p.newVolume("volume", nil)
			a := reserve(p, v, p.servers["node1"])
			p.Compute("60", http.MethodPost, attachments(p.servers["node1"]), object{"volumeAttachment": object{"volumeId": v}})
			p.await("volume", v, "in-use/1")
			p.statuses(v)
			p.Compute("60", http.MethodDelete, attachments(p.servers["node1"])+"/"+v, nil)
			p.await("volume", v, "reserved")
			p.statuses(v)
			p.Volume("66", http.MethodDelete, "/attachments/"+a, nil)
			p.await("volume", v, "available")
		}},
		{"a volume that is reserved for a server that is none", func(p *probe) {
			v := p.newVolume("volume", nil)
			a := reserve(p, v, missing)
			p.Volume("66", http.MethodDelete, "/attachments/"+a, nil)
			p.await("volume", v, "available")
		}},
	}
	return append(rows, row{"an application credential clears what Nova does not know", func(p *probe) {
		who := p.as(p.credential)
		for _, server := range []string{p.servers["node1"], missing} {
			v := p.newVolume("volume", nil)
			a := reserve(p, v, server)
			who.Volume("66", http.MethodDelete, "/attachments/"+a, nil)
			who.note("volume: %s", p.state("volume", v))
			p.take(who)
			who.lines = nil
			p.volume("66", http.MethodDelete, "/attachments/"+a, nil)
			p.await("volume", v, "available")
		}
	}})
}

// statuses writes down Cinder's attachments of a volume.
func (p *probe) statuses(v string) {
	p.Helper()
	var all []string
	for _, a := range p.volume("66", http.MethodGet, "/attachments?volume_id="+v, nil).list("attachments") {
		all = append(all, fmt.Sprintf("%v on %v", a["status"], a["instance"]))
	}
	slices.Sort(all) // two of the same second have no order
	p.note("attachments: %v", all)
}

// resetCopy gives a snapshot or a backup a state, as an administrator can, and
// reports whether Cinder agreed.
func (p *probe) resetCopy(kind, id, state string) bool {
	p.Helper()
	got := p.as(p.admin).volume("66", http.MethodPost, "/"+kind+"s/"+id+"/action", object{"os-reset_status": object{"status": state}})
	p.write("reset to "+state, got, nil)
	return got.Status == http.StatusAccepted
}
