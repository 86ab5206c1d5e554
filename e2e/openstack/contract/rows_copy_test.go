package contract

import (
	"net/http"
	"strings"
)

// copyRows are about snapshots, clones and backups.
func copyRows() []row {
	return []row{
		{"a snapshot is made and deleted", func(p *probe) {
			v := p.newVolume("volume", nil)
			got := p.Volume("66", http.MethodPost, "/snapshots", `{"snapshot": {"volume_id": "`+v+`", "name": "s1", "description": "d", "metadata": {"a": "b"}}}`)
			s := got.text("snapshot", "id")
			p.call(s, "snapshot")
			p.passes("snapshot", s, "creating", "available")
			p.Volume("66", http.MethodGet, "/snapshots/"+s, nil)
			p.Volume("66", http.MethodDelete, "/snapshots/"+s, nil)
			p.passes("snapshot", s, "deleting", "gone")
			p.Volume("66", http.MethodGet, "/snapshots/"+s, nil)
			p.Volume("66", http.MethodDelete, "/snapshots/"+s, nil)
		}},
		{"a snapshot of a volume in use", func(p *probe) {
			v := p.newVolume("volume", nil)
			p.attach(p.servers["node1"], v, "in-use/1")
			for minor, force := range map[string]string{"65": `, "force": true`} {
				got := p.Volume(minor, http.MethodPost, "/snapshots", `{"snapshot": {"volume_id": "`+v+`"`+force+`}}`)
				p.passes("snapshot", got.text("snapshot", "id"), "creating", "available")
			}
			got := p.Volume("66", http.MethodPost, "/snapshots", `{"snapshot": {"volume_id": "`+v+`"}}`)
			p.passes("snapshot", got.text("snapshot", "id"), "creating", "available")
			got = p.Volume("70", http.MethodPost, "/snapshots", `{"snapshot": {"volume_id": "`+v+`", "force": true}}`)
			p.passes("snapshot", got.text("snapshot", "id"), "creating", "available")
		}},
		{"a snapshot looks as its microversion has it", func(p *probe) {
			v := p.newVolume("volume", nil)
			s := p.newCopy("snapshot", "snapshot", v, object{"name": "s1"})
			for _, minor := range []string{"", "13", "14", "40", "41", "65", "70"} {
				p.Volume(minor, http.MethodGet, "/snapshots/"+s, nil)
			}
		}},
		{"no snapshot is made", func(p *probe) {
			v := p.newVolume("volume", nil)
			for _, fields := range []string{
				`"volume_id": "` + missing + `"`, `"volume_id": "x"`, `"name": "x"`, `"volume_id": null`,
				`"volume_id": "` + v + `", "name": "` + strings.Repeat("n", 256) + `"`,
				`"volume_id": "` + v + `", "metadata": {"k": 1}`, `"volume_id": "` + v + `", "foo": 1`,
			} {
				got := p.Volume("66", http.MethodPost, "/snapshots", `{"snapshot": {`+fields+`}}`)
				if id := got.text("snapshot", "id"); id != "" {
					p.await("snapshot", id, "available")
				}
			}
			p.quota(p.T, map[string]int{"snapshots": 0})
			p.Volume("66", http.MethodPost, "/snapshots", `{"snapshot": {"volume_id": "`+v+`"}}`)
			p.quota(p.T, map[string]int{"snapshots": -1, "gigabytes": 1})
			p.Volume("66", http.MethodPost, "/snapshots", `{"snapshot": {"volume_id": "`+v+`"}}`)
			p.quota(p.T, map[string]int{"gigabytes": -1})
		}},
		{"a volume is made from a snapshot", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			p.volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-extend": {"new_size": 2}}`)
			p.await("volume", v, "available")
			s := p.newCopy("snapshot", "snapshot", v, nil)
			p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "snapshot_id": "`+s+`"}}`)
			p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 2, "snapshot_id": "`+s+`", "availability_zone": "az2"}}`)
			p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 2, "snapshot_id": "`+s+`", "volume_type": "nfs"}}`)
			got := p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 3, "snapshot_id": "`+s+`"}}`)
			p.passes("volume", got.text("volume", "id"), "creating", "available")
			p.Volume("66", http.MethodGet, "/volumes/"+got.text("volume", "id"), nil)
			got = p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"snapshot_id": "`+s+`"}}`)
			p.passes("volume", got.text("volume", "id"), "creating", "available")
		}},
		{"a snapshot that a clone hangs on comes back", func(p *probe) {
			v := p.newVolume("volume", nil)
			s := p.newCopy("snapshot", "snapshot", v, nil)
			clone := p.newVolume("clone", object{"snapshot_id": s})
			p.Volume("66", http.MethodDelete, "/snapshots/"+s, nil)
			p.passes("snapshot", s, "deleting", "available")
			p.Volume("66", http.MethodGet, "/messages?resource_uuid="+s, nil)
			p.volume("66", http.MethodDelete, "/volumes/"+clone, nil)
			p.await("volume", clone, "gone")
			p.Volume("66", http.MethodDelete, "/snapshots/"+s, nil)
			p.passes("snapshot", s, "deleting", "gone")
		}},
		{"a volume is cloned", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard", "metadata": object{"a": "b"}})
			got := p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 2, "source_volid": "`+v+`"}}`)
			p.passes("volume", got.text("volume", "id"), "creating", "available")
			p.Volume("66", http.MethodGet, "/volumes/"+got.text("volume", "id"), nil)
		}},
		{"a volume in use is cloned", func(p *probe) {
			v := p.newVolume("volume", nil)
			p.attach(p.servers["node1"], v, "in-use/1")
			got := p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "source_volid": "`+v+`"}}`)
			p.passes("volume", got.text("volume", "id"), "creating", "available")
		}},
		{"a volume is deleted before its clone", func(p *probe) {
			v := p.newVolume("volume", nil)
			p.newVolume("clone", object{"source_volid": v})
			p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
			p.passes("volume", v, "deleting", "gone")
		}},
		{"a backup is made, restored and deleted", func(p *probe) {
			v := p.newVolume("volume", nil)
			got := p.Volume("66", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`", "name": "b1", "description": "d", "metadata": {"a": "b"}}}`)
			b := got.text("backup", "id")
			p.call(b, "backup")
			p.passes("backup", b, "creating", "available")
			p.await("volume", v, "available")
			p.Volume("66", http.MethodGet, "/backups/"+b, nil, free()...)
			got = p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "backup_id": "`+b+`"}}`)
			restored := got.text("volume", "id")
			p.call(restored, "restored")
			p.passes("volume", restored, "creating", "available")
			p.Volume("66", http.MethodGet, "/volumes/"+restored, nil)
			p.Volume("66", http.MethodDelete, "/backups/"+b, nil)
			p.passes("backup", b, "deleting", "gone")
			p.Volume("66", http.MethodGet, "/backups/"+b, nil)
			p.Volume("66", http.MethodDelete, "/backups/"+b, nil)
		}},
		{"a backup looks as its microversion has it", func(p *probe) {
			v := p.newVolume("volume", nil)
			b := p.newCopy("backup", "backup", v, object{"name": "b1"})
			for _, minor := range []string{"", "42", "43", "45", "46", "51", "56", "70"} {
				p.Volume(minor, http.MethodGet, "/backups/"+b, nil, free()...)
			}
		}},
		{"backups of a volume in use, of a snapshot, and of what has changed", func(p *probe) {
			v := p.newVolume("volume", nil)
			s := p.newCopy("snapshot", "snapshot", v, nil)
			of := p.newCopy("backup", "backup of the snapshot", v, object{"snapshot_id": s})
			p.Volume("66", http.MethodGet, "/backups/"+of, nil, free()...)
			full := p.newCopy("backup", "full", v, nil)
			p.attach(p.servers["node1"], v, "in-use/1")
			got := p.Volume("66", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`", "force": true, "incremental": true}}`)
			more := got.text("backup", "id")
			p.call(more, "increment")
			p.passes("backup", more, "creating", "available")
			p.Volume("66", http.MethodGet, "/backups/"+more, nil, free()...)
			p.Volume("66", http.MethodDelete, "/backups/"+full, nil)
			p.volume("66", http.MethodDelete, "/backups/"+more, nil)
			p.await("backup", more, "gone")
		}},
		{"no backup is made", func(p *probe) {
			v := p.newVolume("volume", nil)
			for _, fields := range []string{
				`"volume_id": "` + missing + `"`, `"volume_id": "x"`, `"name": "x"`,
				`"volume_id": "` + v + `", "snapshot_id": "` + missing + `"`, `"volume_id": "` + v + `", "incremental": true`,
				`"volume_id": "` + v + `", "foo": 1`, `"volume_id": "` + v + `", "metadata": {"k": 1}`,
			} {
				got := p.Volume("66", http.MethodPost, "/backups", `{"backup": {`+fields+`}}`)
				if id := got.text("backup", "id"); id != "" {
					p.await("backup", id, "available")
				}
			}
			p.Volume("42", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`", "metadata": {"a": "b"}}}`)
			p.Volume("50", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`", "availability_zone": "nova"}}`)
			p.quota(p.T, map[string]int{"backups": 0})
			p.Volume("66", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`"}}`)
			p.quota(p.T, map[string]int{"backups": -1, "backup_gigabytes": 0})
			p.Volume("66", http.MethodPost, "/backups", `{"backup": {"volume_id": "`+v+`"}}`)
			p.quota(p.T, map[string]int{"backup_gigabytes": -1})
			small := p.newCopy("backup", "backup", v, nil)
			p.volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-extend": {"new_size": 2}}`)
			p.await("volume", v, "available")
			big := p.newCopy("backup", "big", v, nil)
			p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "backup_id": "`+big+`"}}`)
			p.volume("66", http.MethodDelete, "/backups/"+small, nil)
		}},
	}
}

// free are the members of a backup that tell how the backup driver cuts and
// stores it, which is nobody's contract.
func free() []string { return []string{"container", "object_count"} }
