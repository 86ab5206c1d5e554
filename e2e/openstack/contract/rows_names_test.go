package contract

import (
	"net/http"
	"strings"
)

// newType makes a volume type on the first back end, which the row removes by
// dropType after its volumes.
func (p *probe) newType(name string, specs map[string]string) string {
	p.Helper()
	all := map[string]string{"volume_backend_name": p.backend}
	for key, value := range specs {
		all[key] = value
	}
	got := p.as(p.admin).volume("70", http.MethodPost, "/types", object{"volume_type": object{"name": name, "extra_specs": all}})
	id := got.text("volume_type", "id")
	if id == "" {
		p.Fatalf("%s: make the type %s: %d %s", p.name, name, got.Status, got.Text)
	}
	p.call(id, "type "+name)
	return id
}

// dropType removes a type, and the volumes that the row has made before.
func (p *probe) dropType(id string) {
	p.Helper()
	p.clear()
	if got := p.as(p.admin).volume("70", http.MethodDelete, "/types/"+id, nil); got.Status != http.StatusAccepted {
		p.Errorf("%s: delete the type %s: %d %s", p.name, id, got.Status, got.Text)
	}
}

// settle waits until a new volume, if there is one, is there or in error.
func (p *probe) settle(got answer) string {
	p.Helper()
	id := got.text("volume", "id")
	if id != "" {
		p.quickly(func() {
			for p.state("volume", id) == "creating" {
				continue
			}
		})
		p.note("volume: %s, zone %s", p.state("volume", id), p.volume("66", http.MethodGet, "/volumes/"+id, nil).text("volume", "availability_zone"))
	}
	return id
}

// typeZoneRows are about types that are limited to zones.
func typeZoneRows() []row {
	create := func(p *probe, fields string) {
		p.settle(p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, `+fields+`}}`))
	}
	return []row{
		{"a type of one zone", func(p *probe) {
			p.quota(p.T, map[string]int{"volumes": 2})
			source := p.newVolume("source", object{"volume_type": "standard"})
			snapshot := p.newCopy("snapshot", "snapshot", source, nil)
			defer p.dropType(p.newType("zonal", map[string]string{"RESKEY:availability_zones": "az2"}))
			p.newVolume("other volume", nil)
			create(p, `"volume_type": "zonal", "availability_zone": "nova"`) // the zone comes before the quota
			create(p, `"volume_type": "zonal", "availability_zone": "az2"`)
			p.quota(p.T, map[string]int{"volumes": -1})
			for _, zone := range []string{`"nova"`, `"mars"`, `"AZ2"`, `"az2"`, `""`, "null"} {
				create(p, `"volume_type": "zonal", "availability_zone": `+zone)
			}
			create(p, `"volume_type": "zonal"`)
			create(p, `"volume_type": "zonal", "source_volid": "`+source+`"`)
			create(p, `"volume_type": "zonal", "source_volid": "`+source+`", "availability_zone": "az2"`)
			create(p, `"volume_type": "zonal", "snapshot_id": "`+snapshot+`"`)
			create(p, `"volume_type": "zonal", "snapshot_id": "`+snapshot+`", "availability_zone": "nova"`)
			p.note("the type as a member sees it: %s", p.volume("66", http.MethodGet, "/types?is_public=None", nil).list("volume_types")[0]["extra_specs"])
		}},
		{"a type of several zones, written with blanks", func(p *probe) {
			defer p.dropType(p.newType("blanks", map[string]string{"RESKEY:availability_zones": " nova , mars,"}))
			for _, zone := range []string{"nova", "az2", "mars"} {
				create(p, `"volume_type": "blanks", "availability_zone": "`+zone+`"`)
			}
			create(p, `"volume_type": "blanks"`)
		}},
		{"a type of two zones", func(p *probe) {
			defer p.dropType(p.newType("both", map[string]string{"RESKEY:availability_zones": "az2,nova"}))
			got := p.Volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1, "volume_type": "both"}}`) // the scheduler chooses
			p.await("volume", got.text("volume", "id"), "available")
		}},
		{"a type of zones that are not there", func(p *probe) {
			defer p.dropType(p.newType("nowhere", map[string]string{"RESKEY:availability_zones": "mars,venus"}))
			create(p, `"volume_type": "nowhere", "availability_zone": "mars"`)
			create(p, `"volume_type": "nowhere", "availability_zone": "nova"`)
			create(p, `"volume_type": "nowhere"`)
		}},
		{"a zone whose back end is another", func(p *probe) {
			// The back end of this type is in one zone, and nothing but the
			// scheduler knows.
			create(p, `"volume_type": "nfs", "availability_zone": "az2"`)
			create(p, `"volume_type": "nfs", "availability_zone": "nova"`)
		}},
		{"a volume changes its type to one of another zone", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "standard"})
			defer p.dropType(p.newType("zonal", map[string]string{"RESKEY:availability_zones": "az2"}))
			for _, policy := range []string{"never", "on-demand"} {
				p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-retype": {"new_type": "zonal", "migration_policy": "`+policy+`"}}`)
				p.passes("volume", v, "retyping", "available")
				got := p.volume("66", http.MethodGet, "/volumes/"+v, nil)
				p.note("type %s, zone %s", got.text("volume", "volume_type"), got.text("volume", "availability_zone"))
			}
		}},
	}
}

// nameRows are about how the database compares names, and what is cut off them.
func nameRows() []row {
	found := func(p *probe, what, list string) {
		got := p.volume("66", http.MethodGet, what, nil)
		p.note("%s: %d, %d of them", what, got.Status, len(got.list(list)))
	}
	return []row{
		{"the name of a type in other letters", func(p *probe) {
			for _, name := range []string{"STANDARD", "Standard", "standard ", " standard", "st\u00e4ndard", "multiAttach"} {
				got := p.Volume("66", http.MethodPost, "/volumes", object{"volume": object{"size": 1, "volume_type": name}})
				p.settle(got)
			}
			v := p.newVolume("volume", object{"volume_type": "standard"})
			for _, name := range []string{"FAST", "Fast", "STANDARD "} {
				got := p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", object{"os-retype": object{"new_type": name, "migration_policy": "never"}})
				if got.Status == http.StatusAccepted {
					p.passes("volume", v, "retyping", "available")
				}
				p.note("type %s", p.volume("66", http.MethodGet, "/volumes/"+v, nil).text("volume", "volume_type"))
			}
			admin := p.as(p.admin)
			admin.Volume("66", http.MethodPost, "/types", object{"volume_type": object{"name": "Standard"}})
			p.take(admin)
			p.quota(p.T, map[string]int{"volumes_nfs": 0})
			p.Volume("66", http.MethodPost, "/volumes", object{"volume": object{"size": 1, "volume_type": "NFS"}})
			p.quota(p.T, map[string]int{"volumes_nfs": -1})
		}},
		{"a filter in other letters", func(p *probe) {
			v := p.newVolume("volume", object{"name": "pvc-Ab", "metadata": object{"Key": "Value"}, "volume_type": "standard"})
			p.call(strings.ToUpper(v), "VOLUME")
			p.newCopy("snapshot", "snapshot", v, object{"name": "snap-Ab"})
			p.newCopy("backup", "backup", v, object{"name": "back-Ab"})
			for _, query := range []string{
				"name=pvc-Ab", "name=PVC-AB", "name=pvc-ab%20", "name=%20pvc-ab", "name=pvc-%C3%A4b", "status=AVAILABLE", "availability_zone=NOVA",
				"metadata=%7B%27Key%27:%27Value%27%7D", "metadata=%7B%27key%27:%27value%27%7D",
			} {
				found(p, "/volumes/detail?"+query, "volumes")
				found(p, "/volumes?"+query, "volumes")
			}
			for _, query := range []string{"name=snap-Ab", "name=SNAP-AB", "status=AVAILABLE", "volume_id=" + strings.ToUpper(v)} {
				found(p, "/snapshots/detail?"+query, "snapshots")
			}
			for _, query := range []string{"name=back-Ab", "name=BACK-AB", "status=AVAILABLE", "volume_id=" + strings.ToUpper(v)} {
				found(p, "/backups/detail?"+query, "backups")
			}
		}},
		{"ids in capitals", func(p *probe) {
			v := p.newVolume("volume", nil)
			s := p.newCopy("snapshot", "snapshot", v, nil)
			server, capitals := p.servers["node1"], strings.ToUpper(v)
			p.call(capitals, "VOLUME")
			p.call(strings.ToUpper(s), "SNAPSHOT")
			p.call(strings.ToUpper(server), "NODE1")
			id := func(got answer, kind string) { p.note("%d, id %s", got.Status, got.text(kind, "id")) }
			id(p.volume("66", http.MethodGet, "/volumes/"+capitals, nil), "volume")
			id(p.volume("66", http.MethodGet, "/snapshots/"+strings.ToUpper(s), nil), "snapshot")
			id(p.compute("60", http.MethodGet, "/servers/"+strings.ToUpper(server), nil), "server")
			found(p, "/attachments?volume_id="+capitals, "attachments")
			p.settle(p.Volume("66", http.MethodPost, "/volumes", object{"volume": object{"source_volid": capitals}}))
			p.Compute("60", http.MethodGet, attachments(strings.ToUpper(server)), nil)
			got := p.Compute("60", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": capitals}})
			if got.Status == http.StatusOK {
				p.await("volume", v, "in-use/1")
				p.Compute("60", http.MethodGet, attachments(server), nil)
				p.Compute("60", http.MethodGet, attachments(server)+"/"+capitals, nil)
				p.Compute("60", http.MethodDelete, attachments(server)+"/"+capitals, nil)
				p.await("volume", v, "available")
			}
			p.Volume("66", http.MethodDelete, "/snapshots/"+strings.ToUpper(s), nil)
			p.await("snapshot", s, "gone")
			p.Volume("66", http.MethodDelete, "/volumes/"+capitals, nil)
			p.await("volume", v, "gone")
		}},
		{"white space around names", func(p *probe) {
			named := func(kind string, got answer) {
				p.note("%s: %d, %q %q %v", kind, got.Status, got.text(kind, "name"), got.text(kind, "description"), got.text(kind, "metadata"))
			}
			spec := object{"size": 1, "name": " \t\u2003a  b\u00a0\n", "description": " d ", "metadata": object{" k ": " v "}}
			got := p.volume("66", http.MethodPost, "/volumes", object{"volume": spec})
			v := got.text("volume", "id")
			named("volume", got)
			p.quickly(func() { p.await("volume", v, "available") })
			found(p, "/volumes/detail?name=a%20%20b", "volumes")
			found(p, "/volumes/detail?name=a%20%20b%20", "volumes")
			found(p, "/volumes/detail?name=%20a%20%20b", "volumes")
			named("volume", p.volume("66", http.MethodPut, "/volumes/"+v, object{"volume": object{"name": " c ", "description": "\te"}}))
			named("volume", p.volume("66", http.MethodPut, "/volumes/"+v, object{"volume": object{"name": "  "}}))
			for _, kind := range []string{"snapshot", "backup"} {
				got := p.volume("66", http.MethodPost, "/"+kind+"s", object{kind: object{"volume_id": v, "name": " s ", "description": " d "}})
				id := got.text(kind, "id")
				p.await(kind, id, "available")
				named(kind, p.volume("66", http.MethodGet, "/"+kind+"s/"+id, nil))
				named(kind, p.volume("66", http.MethodPut, "/"+kind+"s/"+id, object{kind: object{"name": " t "}}))
			}
			long := strings.Repeat("n", 250) + strings.Repeat(" ", 10)
			named("volume", p.volume("66", http.MethodPut, "/volumes/"+v, object{"volume": object{"name": long}}))
			p.Volume("66", http.MethodPost, "/volumes", object{"volume": object{"size": 1, "name": long}}, "id", "name", "links")
		}},
	}
}

// metadataRows are about one key of a volume's metadata.
func metadataRows() []row {
	return []row{
		{"a key of metadata is taken away", func(p *probe) {
			v := p.newVolume("volume", object{"metadata": object{"a.b/c-d": "1", "Key": "2", "k": "3"}})
			p.Volume("66", http.MethodDelete, "/volumes/"+v+"/metadata/a.b%2Fc-d", nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v+"/metadata/a.b/c-d", nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v+"/metadata/key", nil)
			p.Volume("66", http.MethodGet, "/volumes/"+v+"/metadata", nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v+"/metadata/k", nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+v+"/metadata/k", nil)
			p.Volume("66", http.MethodDelete, "/volumes/"+missing+"/metadata/k", nil)
			p.Volume("66", http.MethodDelete, "/volumes/x/metadata/k", nil)
			other := p.as(p.other)
			other.Volume("66", http.MethodDelete, "/volumes/"+v+"/metadata/Key", nil)
			p.take(other)
			p.note("one: %v", p.volume("66", http.MethodGet, "/volumes/"+v, nil).text("volume", "metadata"))
			for _, item := range p.volume("66", http.MethodGet, "/volumes/detail", nil).list("volumes") {
				p.note("list: %v", item["metadata"])
			}
			p.Volume("66", http.MethodDelete, "/volumes/"+v+"/metadata/Key", nil)
			p.note("none: %v", p.volume("66", http.MethodGet, "/volumes/"+v, nil).text("volume", "metadata"))
		}},
		{"keys of metadata in other letters", func(p *probe) {
			v := p.newVolume("volume", object{"metadata": object{"Key": "1"}})
			p.Volume("66", http.MethodPost, "/volumes/"+v+"/metadata", object{"metadata": object{"key": "2"}})
			p.Volume("66", http.MethodGet, "/volumes/"+v+"/metadata", nil)
			p.Volume("66", http.MethodGet, "/volumes/"+v+"/metadata/KEY", nil)
			p.Volume("66", http.MethodPut, "/volumes/"+v+"/metadata/KEY", object{"meta": object{"KEY": "3"}})
			p.Volume("66", http.MethodGet, "/volumes/"+v+"/metadata", nil)
		}},
		{"a key of metadata is taken away in every state but one", func(p *probe) {
			v := p.newVolume("volume", object{"metadata": object{"creating": "1", "reserved": "1", "attaching": "1", "maintenance": "1"}})
			for _, state := range []string{"creating", "reserved", "attaching", "maintenance"} {
				if p.reset(v, state) {
					p.Volume("66", http.MethodDelete, "/volumes/"+v+"/metadata/"+state, nil)
				}
			}
			p.reset(v, "available")
		}},
	}
}
