package contract

import (
	"net/http"
	"time"
)

// troubleRows are about servers that take no disk for a while, and about services
// that hang. They run at the end: some of them wait for a minute.
func troubleRows() []row {
	attach := func(p *probe, server, volume string) answer {
		return p.Compute("60", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": volume}}, "device")
	}
	detach := func(p *probe, server, volume string) answer {
		return p.Compute("60", http.MethodDelete, attachments(server)+"/"+volume, nil)
	}
	return []row{
		{"a server that is rescued", func(p *probe) {
			server := p.boot("rescued")
			v, w := p.newVolume("volume", nil), p.newVolume("other volume", nil)
			p.attach(server, v, "in-use/1")
			p.act(server, object{"rescue": object{}}, "RESCUE")
			attach(p, server, w)
			detach(p, server, v)
			p.act(server, object{"lock": nil}, "RESCUE")
			detach(p, server, v) // the lock comes before the state
			p.act(server, object{"unlock": nil}, "RESCUE")
			p.act(server, object{"unrescue": nil}, "ACTIVE")
			p.detachAndWait(server, v)
			p.Compute("60", http.MethodDelete, "/servers/"+server, nil)
		}},
		{"a server that is shelved", func(p *probe) {
			server := p.boot("shelved")
			v, w := p.newVolume("volume", nil), p.newVolume("other volume", nil)
			several := p.newVolume("volume for several", object{"volume_type": "multiattach"})
			p.attach(server, v, "in-use/1")
			p.act(server, object{"shelve": nil}, "SHELVED_OFFLOADED")
			p.note("volume: %s", p.state("volume", v))
			attach(p, server, w)
			p.note("other volume: %s", p.state("volume", w))
			attach(p, server, several)
			p.Compute("19", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": several}})
			p.Compute("60", http.MethodGet, attachments(server), nil, "device")
			detach(p, server, w)
			p.await("volume", w, "available")
			detach(p, server, v)
			p.await("volume", v, "available")
			p.Compute("60", http.MethodDelete, "/servers/"+server, nil)
		}},
		{"an administrator passes a lock", func(p *probe) {
			server := p.boot("locked")
			v := p.newVolume("volume", nil)
			p.act(server, object{"lock": nil}, "ACTIVE")
			admin := p.as(p.admin)
			attach(admin, server, v)
			p.await("volume", v, "in-use/1")
			detach(admin, server, v)
			p.take(admin)
			p.await("volume", v, "available")
			p.Compute("60", http.MethodDelete, "/servers/"+server, nil)
			p.act(server, object{"unlock": nil}, "ACTIVE")
			p.Compute("60", http.MethodDelete, "/servers/"+server, nil)
		}},
		{"a volume whose creation nothing takes up", func(p *probe) {
			p.hold("cinder-scheduler", func() {
				got := p.volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1}}`)
				v := got.text("volume", "id")
				p.call(v, "volume")
				time.Sleep(shown)
				p.Volume("66", http.MethodGet, "/volumes/"+v, nil)
				p.host(v)
				p.Volume("66", http.MethodPost, "/volumes/"+v+"/action", `{"os-extend": {"new_size": 2}}`)
				p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
				p.note("volume: %s", p.state("volume", v)) // at once: no host ever had it
			})
		}},
		{"a volume whose creation hangs at its host", func(p *probe) {
			p.hold("cinder-volume", func() {
				got := p.volume("66", http.MethodPost, "/volumes", `{"volume": {"size": 1}}`)
				v := got.text("volume", "id")
				p.call(v, "volume")
				for p.host(v) == "" {
					time.Sleep(10 * time.Millisecond)
				}
				p.Volume("66", http.MethodGet, "/volumes/"+v, nil)
				p.Volume("66", http.MethodDelete, "/volumes/"+v, nil)
				p.note("volume: %s", p.state("volume", v))
			})
		}},
		{"a server whose compute hangs", func(p *probe) {
			server := p.bootIn("hung", "az2")
			v, w, x := p.newVolume("volume", nil), p.newVolume("other volume", nil), p.newVolume("third volume", nil)
			p.attach(server, v, "in-use/1")
			p.attach(server, x, "in-use/1")
			wake := p.hang("hung")
			defer wake()
			detach(p, server, v)
			p.note("volume: %s", p.state("volume", v))
			attach(p, server, w) // Nova waits for a minute
			p.note("other volume: %s", p.state("volume", w))
			p.Compute("60", http.MethodGet, attachments(server)+"/"+w, nil)
			for _, s := range p.as(p.admin).compute("60", http.MethodGet, "/os-services?binary=nova-compute", nil).list("services") {
				if s["state"] == "down" {
					p.note("%v is %v and %v", s["binary"], s["state"], s["status"])
				}
			}
			detach(p, server, x) // now that Nova knows
			p.act(server, object{"reboot": object{"type": "HARD"}}, "HARD_REBOOT")
			p.note("task_state: %s", p.compute("60", http.MethodGet, "/servers/"+server, nil).text("server", "OS-EXT-STS:task_state"))
			attach(p, server, w)
			detach(p, server, x)
			wake()
			p.until(server, "ACTIVE")
			p.await("volume", v, "available")
			p.unlisted(server, v)
			for deadline := time.Now().Add(patience); p.compute("60", http.MethodGet, attachments(server)+"/"+w, nil).Status != http.StatusOK; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					p.Fatalf("%s: no ghost came of the attachment that was given up", p.name)
				}
			}
			p.note("other volume: %s", p.state("volume", w))
			attach(p, server, w)
			detach(p, server, w)
			p.detachAndWait(server, x)
			p.Compute("60", http.MethodDelete, "/servers/"+server, nil)
			p.gone(server)
			p.note("other volume: %s", p.state("volume", w))
		}},
	}
}

// act sends an action to a server and waits for the status that it leads to.
func (p *probe) act(server string, body object, status string) {
	p.Helper()
	p.note("%v: %d", body, p.compute("60", http.MethodPost, "/servers/"+server+"/action", body).Status)
	p.until(server, status)
}

// detachAndWait detaches a volume from a server and writes nothing down.
func (p *probe) detachAndWait(server, volume string) {
	p.Helper()
	p.compute("60", http.MethodDelete, attachments(server)+"/"+volume, nil)
	p.await("volume", volume, "available")
}

// host is the back end that a volume is on, "" where it has none yet.
func (p *probe) host(volume string) string {
	p.Helper()
	got := p.as(p.admin).volume("66", http.MethodGet, "/volumes/"+volume, nil)
	return got.text("volume", "os-vol-host-attr:host")
}

// hold does something while a service of Cinder hangs.
func (p *probe) hold(service string, do func()) {
	p.Helper()
	release := p.stop(p.T, service)
	defer release()
	do()
}

// hang hangs the compute of a server, which is in az2, and returns what wakes it.
func (p *probe) hang(server string) (wake func()) {
	p.Helper()
	awake := false
	release := p.stop(p.T, "nova-compute of "+server)
	return func() {
		if !awake {
			awake = true
			release()
		}
	}
}
