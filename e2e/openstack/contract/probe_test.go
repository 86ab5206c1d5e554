package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/api"
)

// missing is an id that nothing has.
const missing = "00000000-0000-4000-8000-00000000000f"

// patience bounds every wait.
const patience = time.Minute

// probe is what a row speaks to a cloud with. It writes down what it is told to.
type probe struct {
	*testing.T
	*cloud
	who   *api.Session
	names map[string]string
	lines []string
	// sent is when the last request was sent.
	sent time.Time
}

// object is a body of JSON.
type object = map[string]any

// answer is what came back, with what it says read.
type answer struct {
	api.Answer
	body any
}

// as returns the probe of another account; it writes down on its own.
func (p *probe) as(who *api.Session) *probe {
	other := *p
	other.who = who
	other.lines = nil
	return &other
}

// take goes on with what another account's probe has written down.
func (p *probe) take(other *probe) { p.lines = append(p.lines, other.lines...) }

// call names a value that differs from cloud to cloud.
func (p *probe) call(value, name string) {
	if value != "" {
		p.names[value] = "<" + name + ">"
	}
}

// note writes down a line.
func (p *probe) note(format string, args ...any) {
	p.lines = append(p.lines, p.neutral(fmt.Sprintf(format, args...)))
}

// send sends a request without writing it down.
func (p *probe) send(method, url, version string, body any) answer {
	p.Helper()
	p.sent = time.Now()
	got, err := p.who.Do(context.WithoutCancel(p.Context()), method, url, version, body)
	if err != nil {
		p.Fatalf("%s: %s %s: %v", p.name, method, url, err)
	}
	a := answer{Answer: got}
	_ = json.Unmarshal(got.Text, &a.body) // what is no JSON is compared as text
	return a
}

// volume and compute send a request to Cinder and Nova without writing it down.
func (p *probe) volume(minor, method, path string, body any) answer {
	p.Helper()
	return p.send(method, p.who.Services["block-storage"]+path, version("volume 3.", minor), body)
}

func (p *probe) compute(minor, method, path string, body any) answer {
	p.Helper()
	return p.send(method, p.who.Services["compute"]+path, version("compute 2.", minor), body)
}

func version(prefix, minor string) string {
	if minor == "" {
		return ""
	}
	return prefix + minor
}

// Volume and Compute also write down what came back. Members of the answer that
// are named free may differ; each has its reason where it is named.
func (p *probe) Volume(minor, method, path string, body any, free ...string) answer {
	p.Helper()
	a := p.volume(minor, method, path, body)
	p.write("cinder "+version("3.", minor)+" "+method+" "+path, a, free)
	return a
}

// Compute is Volume for Nova.
func (p *probe) Compute(minor, method, path string, body any, free ...string) answer {
	p.Helper()
	a := p.compute(minor, method, path, body)
	p.write("nova "+version("2.", minor)+" "+method+" "+path, a, free)
	return a
}

// write writes down an answer.
func (p *probe) write(request string, a answer, free []string) {
	body := string(a.Text)
	if a.body != nil {
		loosen(a.body, free)
		text, err := json.Marshal(a.body)
		if err != nil {
			p.Fatal(err)
		}
		body = string(text)
	}
	p.note("%s", request)
	head := fmt.Sprintf("  %d", a.Status)
	for _, name := range []string{"Content-Type", "Openstack-Api-Version", "Retry-After"} {
		if v := a.Header.Values(name); len(v) > 0 {
			head += fmt.Sprintf(", %s: %s", name, strings.Join(v, ", "))
		}
	}
	if len(a.Header.Values("X-Openstack-Request-Id")) == 0 && len(a.Header.Values("X-Compute-Request-Id")) == 0 {
		head += ", no request id"
	}
	p.note("%s", head)
	p.note("  %s", body)
}

// loosen replaces the members that are named free, however deep they are.
func loosen(value any, free []string) {
	switch value := value.(type) {
	case map[string]any:
		for key := range value {
			if slices.Contains(free, key) {
				value[key] = "free"
				continue
			}
			loosen(value[key], free)
		}
	case []any:
		for _, item := range value {
			loosen(item, free)
		}
	}
}

// varying is what is another at each run, and its name.
var varying = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`req-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<request>"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`[0-9a-f]{32}`), "<hex>"},
	{regexp.MustCompile(`/dev/[sv]d([a-z]+)`), "<disk $1>"}, // named by the hypervisor: sd by the fake one, vd by QEMU
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z`), "<time with zone and fraction>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time with zone>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000000`), "<time>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}`), "<time with fraction>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d`), "<time without fraction>"},
}

// neutral replaces what is another at each run.
func (p *probe) neutral(text string) string {
	known := make([]string, 0, len(p.names))
	for value := range p.names {
		known = append(known, value)
	}
	slices.SortFunc(known, func(a, b string) int { return len(b) - len(a) })
	for _, value := range known {
		text = strings.ReplaceAll(text, value, p.names[value])
	}
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	return text
}

// text returns a nested member as text.
func (a answer) text(path ...string) string {
	v := a.body
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[key]
	}
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return ""
	}
	raw, _ := json.Marshal(v) // it came from JSON
	return string(raw)
}

// list returns a nested list of objects.
func (a answer) list(key string) []map[string]any {
	m, _ := a.body.(map[string]any)
	items, _ := m[key].([]any)
	var all []map[string]any
	for _, item := range items {
		entry, _ := item.(map[string]any)
		all = append(all, entry)
	}
	return all
}

// state returns the state of a thing of Cinder, with the number of attachments
// for volumes.
func (p *probe) state(kind, id string) string {
	p.Helper()
	got := p.volume("70", http.MethodGet, "/"+kind+"s/"+id, nil)
	if got.Status == http.StatusNotFound {
		return "gone"
	}
	state := got.text(kind, "status")
	if kind == "volume" {
		m, _ := got.body.(map[string]any)
		v, _ := m["volume"].(map[string]any)
		attachments, _ := v["attachments"].([]any)
		if len(attachments) > 0 {
			state += fmt.Sprintf("/%d", len(attachments))
		}
	}
	return state
}

// passes watches a thing until it stays in the last of the states, and writes
// down that it passed through them in this order; where it didn't, what it passed
// through instead. Of a cloud whose pace is set so that each state lasts, each
// has to be seen, unless the machine was so busy that nobody looked for as long as
// that. Of another one, a short state can be missed by one who asks again and
// again; another state, or another order, can't be.
func (p *probe) passes(kind, id string, states ...string) {
	p.Helper()
	var seen []string
	var blind time.Duration // the longest that nobody looked
	last := states[len(states)-1]
	for deadline := time.Now().Add(patience); ; {
		before := p.sent
		now := p.state(kind, id)
		blind = max(blind, time.Since(before))
		if len(seen) == 0 || seen[len(seen)-1] != now {
			seen = append(seen, now)
		}
		if !within(states, seen) || time.Now().After(deadline) || now == last && p.settled(kind, id, now) {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if passed(states, seen, p.pace != nil && blind < shown) {
		p.note("%s passes %s", kind, strings.Join(states, ", "))
	} else {
		p.note("%s passed %s", kind, strings.Join(seen, ", "))
	}
}

// settled reports whether a state that may be the first as well as the last is
// the last: it stays.
func (p *probe) settled(kind, id, state string) bool {
	for range 4 {
		time.Sleep(5 * time.Millisecond)
		if p.state(kind, id) != state {
			return false
		}
	}
	return true
}

// passed reports whether seen are states in their order, up to the last one, and
// where all have to be there, each of them.
func passed(states, seen []string, all bool) bool {
	for _, state := range states {
		if all && !slices.Contains(seen, state) {
			return false
		}
	}
	return within(states, seen) && len(seen) > 0 && seen[len(seen)-1] == states[len(states)-1]
}

// within reports whether seen are states in their order, some left out, some
// seen again.
func within(states, seen []string) bool {
	at := 0
	for _, s := range seen {
		i := slices.IndexFunc(states[at:], func(state string) bool { return same(state, s) })
		if i < 0 {
			return false
		}
		at += i
	}
	return true
}

// same compares two states. While a volume comes or goes, the number of its
// attachments changes a moment before or after its status.
func same(a, b string) bool {
	x, _, _ := strings.Cut(a, "/")
	y, _, _ := strings.Cut(b, "/")
	return a == b || x == y && (x == "attaching" || x == "detaching")
}

// await waits for a state without writing anything down.
func (p *probe) await(kind, id, state string) {
	p.Helper()
	var now string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if now = p.state(kind, id); now == state {
			return
		}
	}
	p.Fatalf("%s: waited for %s %s to be %s, it is %s", p.name, kind, id, state, now)
}

// newVolume makes a volume and gives it a name in what is written down.
func (p *probe) newVolume(name string, fields object) string {
	p.Helper()
	spec := object{"size": 1}
	for k, v := range fields {
		spec[k] = v
	}
	return p.newThing("volume", name, spec)
}

// newCopy makes a snapshot or backup.
func (p *probe) newCopy(kind, name, volume string, fields object) string {
	p.Helper()
	spec := object{"volume_id": volume}
	for k, v := range fields {
		spec[k] = v
	}
	return p.newThing(kind, name, spec)
}

func (p *probe) newThing(kind, name string, spec object) (id string) {
	p.Helper()
	p.quickly(func() {
		got := p.volume("70", http.MethodPost, "/"+kind+"s", object{kind: spec})
		if id = got.text(kind, "id"); id == "" {
			p.Fatalf("%s: make %s %s: %d %s", p.name, kind, name, got.Status, got.Text)
		}
		p.call(id, name)
		p.await(kind, id, "available")
	})
	return id
}

// attach attaches a volume and waits until Cinder says so too.
func (p *probe) attach(server, volume, until string) {
	p.Helper()
	p.quickly(func() {
		got := p.compute("60", http.MethodPost, attachments(server), object{"volumeAttachment": object{"volumeId": volume}})
		if got.Status != http.StatusOK {
			p.Fatalf("%s: attach: %d %s", p.name, got.Status, got.Text)
		}
		p.await("volume", volume, until)
	})
}

func attachments(server string) string { return "/servers/" + server + "/os-volume_attachments" }

// clear detaches and deletes everything that the member has. What is still
// there after a while is forced out, and told.
func (p *probe) clear() { p.quickly(p.empty) }

func (p *probe) empty() {
	p.detachAll()
	start := time.Now()
	for forced := false; ; time.Sleep(50 * time.Millisecond) {
		var left []string
		for _, kind := range []string{"backup", "snapshot", "volume"} {
			for _, item := range p.volume("70", http.MethodGet, "/"+kind+"s/detail", nil).list(kind + "s") {
				id, status := fmt.Sprint(item["id"]), item["status"]
				left = append(left, fmt.Sprint(kind, " ", id, " ", status))
				if forced {
					p.as(p.admin).volume("70", http.MethodPost, "/"+kind+"s/"+id+"/action", object{"os-force_delete": object{}})
				} else if status != "deleting" {
					p.volume("70", http.MethodDelete, "/"+kind+"s/"+id, nil)
				}
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Since(start) > 5*time.Second && !forced {
			p.Logf("%s: forced out: %v", p.name, left)
			p.detachAll()
			forced = true
		}
		if time.Since(start) > patience {
			p.Errorf("%s: could not be deleted: %v", p.name, left)
			return
		}
	}
}

// detachAll detaches all volumes from all servers. A row may have left a volume
// in a state in which Nova refuses to.
func (p *probe) detachAll() {
	for name := range p.servers {
		server := p.servers[name]
		for _, a := range p.compute("60", http.MethodGet, attachments(server), nil).list("volumeAttachments") {
			v := fmt.Sprint(a["volumeId"])
			if p.compute("60", http.MethodDelete, attachments(server)+"/"+v, nil).Status == http.StatusBadRequest {
				p.as(p.admin).volume("70", http.MethodPost, "/volumes/"+v+"/action",
					object{"os-reset_status": object{"status": "in-use", "attach_status": "attached"}})
				p.compute("60", http.MethodDelete, attachments(server)+"/"+v, nil)
			}
		}
	}
}
