package contract

import "net/http"

// versionRows are about the discovery of microversions and what becomes of a
// request that asks for one.
func versionRows() []row {
	return []row{
		{"the services tell their microversions", func(p *probe) {
			for _, service := range []string{"block-storage", "compute"} {
				got := p.send(http.MethodGet, p.root(service)+"/", "", nil)
				for _, v := range got.list("versions") {
					p.note("%s %v: %v, version %v, min_version %v", service, v["id"], v["status"], v["version"], v["min_version"])
				}
				p.note("%s: %d", service, got.Status)
			}
			got := p.send(http.MethodGet, p.root("compute")+"/v2.1/", "", nil)
			p.note("nova 2.1: %d, version %s, min_version %s", got.Status, got.text("version", "version"), got.text("version", "min_version"))
			got = p.send(http.MethodGet, p.root("block-storage")+"/v3/", "", nil)
			for _, v := range got.list("versions") {
				p.note("cinder 3: %d, version %v, min_version %v", got.Status, v["version"], v["min_version"])
			}
		}},
		{"a microversion that is too new, or none, is refused", func(p *probe) {
			for _, minor := range []string{"71", "999"} {
				p.Volume(minor, http.MethodGet, "/volumes", nil)
			}
			p.Compute("999", http.MethodGet, "/servers", nil)
			for _, v := range []string{"volume 2.0", "volume 4.0", "volume x", "volume 3", "volume 3.70.1", "volume 3.-1", "compute 2.60", "latest", "volume latest"} {
				p.write("cinder with version "+v, p.send(http.MethodGet, p.who.Services["block-storage"]+"/volumes", v, nil), nil)
			}
			for _, v := range []string{"compute 2.0", "compute 3.0", "compute x", "compute 2", "volume 3.70", "latest", "compute latest"} {
				p.write("nova with version "+v, p.send(http.MethodGet, p.who.Services["compute"]+"/servers?name=nothing", v, nil), nil)
			}
		}},
		{"without a microversion the oldest is meant", func(p *probe) {
			p.Volume("", http.MethodGet, "/volumes", nil)
			p.Compute("", http.MethodGet, "/servers?name=nothing", nil)
		}},
		{"a call that is newer than the microversion is none", func(p *probe) {
			p.Volume("2", http.MethodGet, "/messages", nil)
			p.Volume("26", http.MethodGet, "/attachments", nil)
			p.Volume("3", http.MethodGet, "/messages?sort=created_at:desc", nil, "messages")
		}},
		{"an address that is none is not found", func(p *probe) {
			p.Volume("70", http.MethodGet, "/nonsense", nil)
			p.Compute("60", http.MethodGet, "/nonsense", nil)
			p.Compute("60", http.MethodGet, "/servers/"+p.servers["node1"]+"/nonsense", nil)
			p.Volume("70", http.MethodPost, "/volumes/"+missing, `{}`)
		}},
		{"a body that is no JSON, or no object, is refused", func(p *probe) {
			for _, body := range []string{`{`, `[]`, `{}`, `{"volume": null}`, `{"volume": []}`, `"x"`} {
				p.Volume("70", http.MethodPost, "/volumes", body)
			}
			for _, body := range []string{`{`, `{}`, `{"volumeAttachment": {}}`} {
				p.Compute("60", http.MethodPost, attachments(p.servers["node1"]), body)
			}
		}},
	}
}
